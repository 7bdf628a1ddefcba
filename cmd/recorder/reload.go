package main

import (
	"reflect"
	"slices"
)

// Reload makes the App what cfg says, as far as that can change while it runs: added channels are joined, removed ones left
// and their files finalised, which Reload waits for, changed ones go on under their new options, and what did not change is
// not touched. Another credential, or other metadata of the bot, is used from the next connection on, and channels that had
// failed are tried again. The level of the log changes at once. Keys that take a restart are logged and stay as they were.
// Once Stop has begun nothing is joined any more.
func (a *App) Reload(cfg Config) error {
	live := a.cfg
	live.Channels, live.Defaults = cfg.Channels, cfg.Defaults
	live.Bot.Metadata = cfg.Bot.Metadata
	live.Log.Level = cfg.Log.Level
	live.Signaling = cfg.Signaling
	live.Signaling.URL = a.cfg.Signaling.URL
	for _, key := range differences(reflect.ValueOf(live), reflect.ValueOf(cfg), "") {
		a.log.Warn("configuration key takes effect with the next start", "key", key)
	}
	before := a.live.Swap(&live)
	if a.level != nil {
		a.level.Set(live.Log.Level)
	}
	err := a.set.Apply(sessionConfigs(&live))
	for _, gone := range before.Channels {
		if !slices.ContainsFunc(live.Channels, func(c ChannelConfig) bool { return c.Name == gone.Name }) {
			a.signaling.Forget(gone.Name)
		}
	}
	return err
}

// differences lists the keys in which two sections of a configuration differ.
func differences(one, other reflect.Value, path string) []string {
	var keys []string
	for _, key := range keysOf(one.Type()) {
		field, _ := fieldOf(one.Type(), key)
		a, b := one.FieldByIndex(field.Index), other.FieldByIndex(field.Index)
		switch {
		case kindOf(field.Type) == reflect.Struct:
			keys = append(keys, differences(a, b, join(path, key))...)
		case !reflect.DeepEqual(a.Interface(), b.Interface()):
			keys = append(keys, join(path, key))
		}
	}
	return keys
}
