// Package attack is what a hostile member of a channel, a neighbour on the
// network and a broken service do to a recorder. Each attack is one row of
// [All], runs against a recorder that is running, and says what is promised.
//
// Attacks share no code with the recorder: they speak the wire themselves, so
// that they may break its rules. The tests of this package run all of them
// beside members of whom nothing may be lost.
package attack

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"recorder/internal/lab/devserver"
)

// Target is where an attack goes.
type Target struct {
	URL     string // of the service, ws://host:port
	Channel string
	// KeyID and Secret sign tokens for peer ids of the attacker's choice.
	// Without them the service assigns ids.
	KeyID, Secret string
	// Bot begins the recorder's peer id.
	Bot string
	// Stream is the id of a stream of another member, which that member shows
	// to everyone.
	Stream string
	// Server is the service itself, for attacks by the service.
	Server *devserver.Server

	attack string // its name
	begin  func() // starts its time
	sent   *atomic.Int64
}

// Attack is something that a hostile party does.
type Attack struct {
	Name    string
	About   string // what it does, in a line
	Promise string // what holds nevertheless, besides that nobody else loses anything
	// Service is set if only the service can do it.
	Service bool
	// Lasts is how long it takes at least to show anything; 0: any time does.
	Lasts time.Duration

	// run attacks until ctx ends, and calls t.begin or t.every. It returns an
	// error if it could not attack, and a [BrokenPromise] if it saw itself that the promise does not hold.
	run func(ctx context.Context, t Target) error
}

// BrokenPromise is what an attack saw that must not be.
type BrokenPromise string

func (b BrokenPromise) Error() string { return string(b) }

// Report is what an attack came to.
type Report struct {
	Sent int64 // frames and datagrams
	Took time.Duration
}

// All lists the attacks.
func All() (all []Attack) {
	for _, group := range [][]Attack{
		candidateAttacks, descriptionAttacks, memberAttacks, packetAttacks(), portAttacks, serviceAttacks,
	} {
		all = append(all, group...)
	}
	return all
}

func (a Attack) is(b Attack) bool { return a.Name == b.Name }

// Find returns the attack of a name.
func Find(name string) (Attack, bool) {
	for _, a := range All() {
		if a.Name == name {
			return a, true
		}
	}
	return Attack{}, false
}

// Run attacks for so long from when the attacker has what it needs, a
// connection for example.
func (a Attack) Run(ctx context.Context, t Target, lasts time.Duration) (Report, error) {
	if a.Service && t.Server == nil {
		return Report{}, errors.New("only the service can do that, and it is not ours")
	}
	ctx, cancel := context.WithTimeout(ctx, 2*patience+lasts)
	defer cancel()
	var began atomic.Pointer[time.Time]
	t.attack, t.sent = a.Name, new(atomic.Int64)
	t.begin = sync.OnceFunc(func() {
		now := time.Now()
		began.Store(&now)
		time.AfterFunc(lasts, cancel)
	})
	err := a.run(ctx, t)
	report := Report{Sent: t.sent.Load()}
	if start := began.Load(); start != nil {
		report.Took = time.Since(*start)
	} else if err == nil {
		err = errors.New("it did not begin in time")
	}
	if broken := BrokenPromise(""); report.Took >= lasts && !errors.As(err, &broken) {
		err = nil // that it was stopped is how every attack ends
	}
	return report, err
}

// every calls do each interval until ctx ends or it fails. The attack has
// begun with the first call.
func (t Target) every(ctx context.Context, interval time.Duration, do func(n int) error) error {
	t.begin()
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for n := 0; ; n++ {
		if err := do(n); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// token is a credential for a peer id, as a query of the service's address.
func (t Target) token(peer string) (string, error) {
	if t.Secret == "" {
		return "key=pk_live_hostile", nil
	}
	token := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
		"sub": peer, "exp": time.Now().Add(time.Hour).Unix(), "channels": []string{t.Channel},
		"permissions": []string{
			"publish",
			"subscribe",
			"presence",
			"send",
		}, "peerMetadata": hostileMetadata,
	})
	token.Header["kid"] = t.KeyID
	signed, err := token.SignedString([]byte(t.Secret))
	if err != nil {
		return "", fmt.Errorf("sign a token: %w", err)
	}
	return "token=" + signed, nil
}

// hostileMetadata is what attackers say of themselves.
var hostileMetadata = map[string]any{
	"role": "\u202e\x1b[31m../..",
	"name": strings.Repeat("\U0001f4a3", 200),
}

// id is a peer id that was not used before, and tells of the attack.
func (t Target) id() string { return fmt.Sprintf("mallory-%s-%x", t.attack, rand.Uint32()) }

// noise is n random bytes.
func noise(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rand.Uint32())
	}
	return b
}
