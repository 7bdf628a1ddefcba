package main

import "recorder/internal/config"

// What the recorder takes of file descriptors besides media files, measured with one channel: 12 for the process and three for
// each channel, its connection and its recording. The rest is for a moment: manifests, scrapes, files being opened.
const (
	descriptorsAtRest     = 24
	descriptorsOfChannel  = 4
	descriptorsOfStream   = 2  // a file of sound and one of pictures
	streamsWithoutMaximum = 10 // of a channel without max_streams, for a warning
)

// neededDescriptors is the limit below which the files of a configuration cannot all stay open while they are written, or below
// which sockets and manifests may find none. Media files get half of the limit.
func neededDescriptors(cfg *config.Config) int {
	others, files := descriptorsAtRest, 0
	for _, c := range cfg.Channels {
		streams := c.MaxStreams
		if streams == 0 {
			streams = streamsWithoutMaximum
		}
		others += descriptorsOfChannel
		files += descriptorsOfStream * streams
	}
	return 2 * max(others, files)
}

// httpConnections is how many connections the HTTP server takes at once, for a limit of descriptors. More wait.
func httpConnections(limit int) int { return max(limit/8, 4) }
