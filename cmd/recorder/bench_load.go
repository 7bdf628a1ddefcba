package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/pion/interceptor"
	"github.com/pion/logging"
	"github.com/pion/webrtc/v4"

	"recorder/internal/lab/clip"
	"recorder/internal/lab/devserver"
	"recorder/internal/lab/member"
	"recorder/internal/signaling"
)

const (
	benchChannel   = "bench"
	benchMember    = "member-" // begins the members' peer ids
	benchFrameRate = 30
	benchFrameSize = 4042 // bytes, on average: 0.97 Mbit/s
)

// runBenchLoad serves and has members join, who send to whoever else comes, until ctx ends. The server's address is the
// only line on stdout.
func runBenchLoad(ctx context.Context, o benchOptions, stdout io.Writer) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	secret := "sk_secret_" + rand.Text()
	server := devserver.New(devserver.Options{
		Secrets: map[string]string{"sk_id_bench": secret},
		Limits:  devserver.Limits{Connects: -1, Rate: -1},
	})
	web := newHTTPServer(server)
	go func() { _ = web.Serve(listener) }() // ends with the server being closed
	defer func() {
		server.Close()
		_ = web.Close()
	}()
	url := "ws://" + listener.Addr().String()
	api, err := benchSender()
	if err != nil {
		return err
	}
	var members sync.WaitGroup
	defer members.Wait()
	for i := range o.peers {
		name := fmt.Sprintf("%s%03d", benchMember, i)
		credential, err := signaling.NewSecretKey(signaling.SecretKeyOptions{
			ID: "sk_id_bench", Secret: secret, PeerID: name, Channels: []string{benchChannel},
		})
		if err != nil {
			return err
		}
		joining, cancel := context.WithTimeout(ctx, demoPatience)
		m, err := member.Join(joining, member.Options{
			URL: url, Credential: credential, Channel: benchChannel, API: api,
			Meet: func(peer string) bool { return !strings.HasPrefix(peer, benchMember) },
			Tracks: []member.Track{
				{StreamID: name, TrackID: name + "-picture", MimeType: webrtc.MimeTypeVP8, Source: benchPicture()},
				{StreamID: name, TrackID: name + "-sound", MimeType: webrtc.MimeTypeOpus, Source: member.Sound()},
			},
		})
		cancel()
		if err != nil {
			return err
		}
		members.Go(func() {
			<-ctx.Done()
			m.Leave()
		})
	}
	fmt.Fprintln(stdout, url)
	<-ctx.Done()
	return nil
}

// benchSender makes connections as a browser's: with transport-wide sequence numbers besides pion's defaults.
func benchSender() (*webrtc.API, error) {
	media, registry := &webrtc.MediaEngine{}, &interceptor.Registry{}
	if err := media.RegisterDefaultCodecs(); err != nil {
		return nil, err
	}
	if err := webrtc.RegisterDefaultInterceptors(media, registry); err != nil {
		return nil, err
	}
	if err := webrtc.ConfigureTWCCHeaderExtensionSender(media, registry); err != nil {
		return nil, err
	}
	return webrtc.NewAPI(webrtc.WithMediaEngine(media), webrtc.WithInterceptorRegistry(registry),
		webrtc.WithSettingEngine(benchSettings())), nil
}

// benchSettings are the connection settings of everyone but the recorder.
func benchSettings() webrtc.SettingEngine {
	s := webrtc.SettingEngine{LoggerFactory: &logging.DefaultLoggerFactory{Writer: io.Discard}}
	loopbackOnly(&s)
	return s
}

// benchPicture is the clip's picture at twice its rate, its frames padded to the size of a camera's. Decoders take the
// padding for a part of the last partition, which they have no use for.
func benchPicture() member.Source {
	return func(yield func([]byte, time.Duration) bool) {
		var frames [][]byte
		for _, s := range clip.VP8() {
			frames = append(frames, append(s.Data[:len(s.Data):len(s.Data)], make([]byte, max(0, benchFrameSize-len(s.Data)))...))
		}
		for {
			for _, f := range frames {
				if !yield(f, time.Second/benchFrameRate) {
					return
				}
			}
		}
	}
}
