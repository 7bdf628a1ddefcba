package main

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"net/url"

	"recorder/internal/signaling"
)

// processSalt makes the bot's peer ids differ from those of every other process: members that still hold a connection to a
// bot that was killed would never offer to a new one of the same name.
type processSalt [16]byte

func newProcessSalt() processSalt {
	var salt processSalt
	_, _ = rand.Read(salt[:]) // never fails
	return salt
}

// peerID returns the bot's peer id in a channel: name and eight hex digits, the same for the life of the process and another in
// each channel, because each has a connection of its own.
func (salt processSalt) peerID(name, channel string) string {
	mac := hmac.New(sha256.New, salt[:])
	mac.Write([]byte(channel))
	return name + "-" + hex.EncodeToString(mac.Sum(nil)[:4])
}

// newCredential returns the credential that is configured, good for one channel where we can say so.
func newCredential(cfg SignalingConfig, bot BotConfig, peerID, channel string) (signaling.Credential, error) {
	switch {
	case cfg.APIKey != "":
		return signaling.PublishableKey(cfg.APIKey)
	case cfg.TokenURL != "":
		return signaling.TokenURL(cfg.TokenURL, url.Values{"peerId": {peerID}, "channel": {channel}}, nil)
	default:
		return signaling.NewSecretKey(signaling.SecretKeyOptions{
			ID:           cfg.SecretKey.ID,
			Secret:       cfg.SecretKey.Secret,
			PeerID:       peerID,
			Channels:     []string{channel},
			PeerMetadata: bot.Metadata,
			TTL:          cfg.SecretKey.TokenTTL,
		})
	}
}

// liveCredential is a credential that is looked up anew whenever it is needed, so that a connection made after a reload uses
// the one of then.
type liveCredential func() (signaling.Credential, error)

// Authorize implements signaling.Credential.
func (c liveCredential) Authorize(ctx context.Context) (param, value string, err error) {
	credential, err := c()
	if err != nil {
		return "", "", err
	}
	return credential.Authorize(ctx)
}

// Renewable implements signaling.Credential.
func (c liveCredential) Renewable() bool {
	credential, err := c()
	return err == nil && credential.Renewable()
}

// String implements signaling.Credential.
func (c liveCredential) String() string {
	credential, err := c()
	if err != nil {
		return "no credential"
	}
	return credential.String()
}
