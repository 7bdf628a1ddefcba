//go:build linux || darwin

package main

import "syscall"

// diskSpace returns how many bytes of the file system that holds dir we may still take, and how many there are in all.
func diskSpace(dir string) (free, size uint64, err error) {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil {
		return 0, 0, err
	}
	block := uint64(fs.Bsize)
	return uint64(fs.Bavail) * block, uint64(fs.Blocks) * block, nil
}
