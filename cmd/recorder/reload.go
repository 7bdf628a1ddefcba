package main

import (
	"slices"

	"recorder/internal/config"
)

// Reload makes the App what cfg says, as far as that can change while it runs: added channels are joined, removed ones left
// and their files finalised, which Reload waits for, changed ones go on under their new options, and what did not change is
// not touched. Another credential, or other metadata of the bot, is used from the next connection on, and channels that had
// failed are tried again. The level of the log changes at once. Keys that take a restart are logged and stay as they were.
// Once Stop has begun nothing is joined any more.
func (a *App) Reload(cfg config.Config) error {
	live := a.cfg
	live.Channels, live.Defaults = cfg.Channels, cfg.Defaults
	live.Bot.Metadata = cfg.Bot.Metadata
	live.Log.Level = cfg.Log.Level
	live.Signaling = cfg.Signaling
	live.Signaling.URL = a.cfg.Signaling.URL
	for _, key := range config.Differences(live, cfg) {
		a.log.Warn("configuration key takes effect with the next start", "key", key)
	}
	before := a.live.Swap(&live)
	if a.level != nil {
		a.level.Set(live.Log.Level)
	}
	err := a.set.Apply(sessionConfigs(&live))
	for _, gone := range before.Channels {
		if !slices.ContainsFunc(live.Channels, func(c config.ChannelConfig) bool { return c.Name == gone.Name }) {
			a.signaling.Forget(gone.Name)
		}
	}
	return err
}
