package sink

import (
	"crypto/sha256"
	"encoding/base32"
	"strings"
)

// Bounds of file names made of names from the wire, in bytes.
const (
	maxName   = 64 // what is kept of the true name
	nameHash  = 13 // 64 bits of SHA-256 in base32
	maxBefore = maxName + len("-") + nameHash
)

// nameCoding writes hashes in lower case, so that they survive file systems that fold it.
var nameCoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// escapeName turns any name a remote member can send into one path element of at most maxBefore
// bytes of a–z, 0–9, dot, dash and underscore. A name of only these, short, and without a meaning
// to a file system stays as it is. Any other keeps what it can and gets a hash of the true name,
// which keeps apart what letter case, Unicode normalisation, replacement or cutting would make
// equal. A true name that looks hashed is hashed too, so no name can pass for another.
func escapeName(name string) string {
	if plainName(name) {
		return name
	}
	stem := []byte(name[:min(len(name), maxName)])
	for i, c := range stem {
		switch {
		case c >= 'A' && c <= 'Z':
			stem[i] = c + 'a' - 'A'
		case !plainByte(c):
			stem[i] = '_'
		}
	}
	// Without dots no stem is hidden, relative, a reserved device or one of our own file names.
	safe := strings.Trim(strings.ReplaceAll(string(stem), ".", "_"), "-_")
	if safe == "" {
		safe = "x"
	}
	sum := sha256.Sum256([]byte(name))
	return safe + "-" + nameCoding.EncodeToString(sum[:8])
}

// plainName reports whether name can stand as it is.
func plainName(name string) bool {
	if name == "" || len(name) > maxName || strings.Trim(name, ".-_") != name {
		return false
	}
	for i := range len(name) {
		if !plainByte(name[i]) {
			return false
		}
	}
	return name != ManifestName && !reservedName(name) && !looksHashed(name)
}

func plainByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '.' || c == '-' || c == '_'
}

// reservedName reports whether Windows and its network shares take name for a device, with any
// extension.
func reservedName(name string) bool {
	stem, _, _ := strings.Cut(name, ".")
	switch stem {
	case "con", "prn", "aux", "nul":
		return true
	}
	if port, ok := strings.CutPrefix(stem, "com"); ok || strings.HasPrefix(stem, "lpt") {
		if !ok {
			port = stem[len("lpt"):]
		}
		return len(port) == 1 && port[0] >= '0' && port[0] <= '9'
	}
	return false
}

// looksHashed reports whether name ends as escapeName's changed names do.
func looksHashed(name string) bool {
	dash := len(name) - nameHash - 1
	if dash < 0 || name[dash] != '-' {
		return false
	}
	_, err := nameCoding.DecodeString(name[dash+1:])
	return err == nil
}
