package config

import (
	"net/url"

	"recorder/internal/signaling"
)

// NewCredential returns the credential that is configured, good for one channel where we can say so.
func NewCredential(cfg SignalingConfig, bot BotConfig, peerID, channel string) (signaling.Credential, error) {
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
