// Command attack runs one attack of internal/lab/attack against a recorder on
// this machine, which people who test one start for it:
//
//	recorder devserver &
//	export RECORDER_SIGNALING_URL=ws://127.0.0.1:9292 RECORDER_SIGNALING_API_KEY=pk_live_dev
//	recorder run &
//	go run ./internal/lab/attack/cmd udp-junk --url $RECORDER_SIGNALING_URL --bot "" --duration 30s
//
// With --serve it is the service as well, and --url is not needed. The bot has
// a peer id that begins with its name if the recorder has a secret key.
package main

import (
	"context"
	"flag"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"text/tabwriter"
	"time"

	"recorder/internal/lab/attack"
	"recorder/internal/lab/devserver"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "attack:", err)
		os.Exit(1)
	}
}

func run() error {
	flags := flag.NewFlagSet("attack NAME|list", flag.ExitOnError)
	address := flags.String("url", "ws://127.0.0.1:9292", "the service")
	channel := flags.String("channel", "room-42", "the channel that is recorded")
	duration := flags.Duration("duration", 10*time.Second, "how long")
	bot := flags.String(
		"bot",
		"recorder",
		"begins the recorder's peer id; empty: whoever is there first",
	)
	stream := flags.String("stream", "", "id of another member's stream, for stream-theft")
	key := flags.String(
		"secret-key",
		"",
		"id=secret, to choose peer ids; empty: the service assigns them",
	)
	serve := flags.String(
		"serve",
		"",
		"be the service, too, on this address, and wait for the recorder",
	)
	if len(os.Args) < 2 || strings.HasPrefix(os.Args[1], "-") {
		flags.Usage()
		return fmt.Errorf("want the name of an attack, or list")
	}
	name := os.Args[1]
	_ = flags.Parse(os.Args[2:]) // it exits
	if name == "list" {
		return list()
	}
	a, ok := attack.Find(name)
	if !ok {
		return fmt.Errorf("no attack is named %q; list shows them", name)
	}
	t := attack.Target{URL: *address, Channel: *channel, Bot: *bot, Stream: *stream}
	t.KeyID, t.Secret, _ = strings.Cut(*key, "=")
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if *serve != "" {
		if err := beService(ctx, &t, *serve); err != nil {
			return err
		}
	}
	if err := local(t.URL); err != nil {
		return err
	}
	report, err := a.Run(ctx, t, *duration)
	fmt.Printf(
		"%s: %d frames and datagrams in %v\n",
		a.Name,
		report.Sent,
		report.Took.Round(time.Millisecond),
	)
	return err
}

func list() error {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	for _, a := range attack.All() {
		fmt.Fprintf(w, "%s\t%s\n", a.Name, a.About)
	}
	return w.Flush()
}

// local refuses to attack what is not on this machine.
func local(address string) error {
	u, err := url.Parse(address)
	if err != nil {
		return err
	}
	if ip := net.ParseIP(u.Hostname()); u.Hostname() != "localhost" &&
		(ip == nil || !ip.IsLoopback()) {
		return fmt.Errorf("%s is not on this machine", address)
	}
	return nil
}

// beService serves until ctx ends, and returns once the recorder is there.
func beService(ctx context.Context, t *attack.Target, address string) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	o := devserver.Options{Limits: devserver.Limits{Connects: -1}}
	if t.Secret != "" {
		o.Secrets = map[string]string{t.KeyID: t.Secret}
	}
	t.Server, t.URL = devserver.New(o), "ws://"+listener.Addr().String()
	go func() { _ = http.Serve(listener, t.Server) }() // until the process ends
	fmt.Printf("signaling.url: %s, waiting for the recorder\n", t.URL)
	for ctx.Err() == nil {
		for _, member := range t.Server.Members(t.Channel) {
			if strings.HasPrefix(member, t.Bot) {
				return nil
			}
		}
		time.Sleep(100 * time.Millisecond)
	}
	return ctx.Err()
}
