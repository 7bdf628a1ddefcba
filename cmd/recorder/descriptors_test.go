package main

import (
	"testing"

	"recorder/internal/config"
)

func TestNeededDescriptorsFollowTheConfiguration(t *testing.T) {
	channels := func(n, maxStreams int) (cfg config.Config) {
		for range n {
			cfg.Channels = append(cfg.Channels, config.ChannelConfig{ChannelOptions: config.ChannelOptions{MaxStreams: maxStreams}})
		}
		return cfg
	}
	for _, tt := range []struct{ channels, maxStreams, want int }{
		{0, 0, 48}, {1, 0, 56}, {3, 0, 120}, {1, 200, 800}, {10, 1, 128}, {500, 0, 20_000},
	} {
		cfg := channels(tt.channels, tt.maxStreams)
		if n := neededDescriptors(&cfg); n != tt.want {
			t.Errorf("%d channels of %d streams: %d, want %d", tt.channels, tt.maxStreams, n, tt.want)
		}
	}
}
