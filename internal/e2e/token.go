package e2e

import (
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// Token mints what an application's back end would give a browser.
func Token(t testing.TB, keyID, secret, peerID string) string {
	t.Helper()
	token := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
		"sub":          peerID,
		"exp":          time.Now().Add(time.Hour).Unix(),
		"channels":     []string{"*"},
		"permissions":  []string{"publish", "subscribe", "presence", "send"},
		"peerMetadata": map[string]any{"username": peerID},
	})
	token.Header["kid"] = keyID
	signed, err := token.SignedString([]byte(secret))
	if err != nil {
		t.Fatal(err)
	}
	return signed
}
