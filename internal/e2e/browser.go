package e2e

import (
	"context"
	"embed"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

//go:embed page
var pageFiles embed.FS

// chromiumFlags keep Chromium off the network and give it media without a
// person: a fake camera and microphone, and real loopback ICE candidates.
var chromiumFlags = map[string]any{
	"headless":                               "new",
	"no-sandbox":                             true,
	"disable-gpu":                            true,
	"disable-quic":                           true,
	"no-first-run":                           true,
	"disable-background-networking":          true,
	"disable-component-update":               true,
	"disable-sync":                           true,
	"disable-dev-shm-usage":                  true,
	"disable-background-timer-throttling":    true,
	"disable-renderer-backgrounding":         true,
	"disable-backgrounding-occluded-windows": true,
	"use-fake-device-for-media-stream":       true,
	"use-fake-ui-for-media-stream":           true,
	"autoplay-policy":                        "no-user-gesture-required",
	"allow-loopback-in-peer-connection":      true,
	"auto-select-desktop-capture-source":     "Entire screen",
	"mute-audio":                             true,
}

// Browser is one Chromium process with a page server of its own. Its pages
// load the official SDK.
type Browser struct {
	ctx    context.Context
	server *httptest.Server
}

// StartBrowser starts Chromium; it ends with the test. A test that lacks
// Chromium or the SDK is skipped, see Missing.
func StartBrowser(t testing.TB) *Browser {
	t.Helper()
	sdk := SDK(t)
	chromium := Tool(t, "chromium", "chromium-browser", "google-chrome")

	mux := http.NewServeMux()
	mux.Handle("/page/", http.FileServerFS(pageFiles))
	mux.HandleFunc("/sdk.js", func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, sdk) })
	mux.HandleFunc("/favicon.ico", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)

	// Not t.TempDir: Chromium's children may still write while they end.
	profile, err := os.MkdirTemp("", "recorder-e2e-")
	if err != nil {
		t.Fatal(err)
	}
	opts := []chromedp.ExecAllocatorOption{chromedp.ExecPath(chromium), chromedp.UserDataDir(profile)}
	for name, value := range chromiumFlags {
		opts = append(opts, chromedp.Flag(name, value))
	}
	alloc, stopAlloc := chromedp.NewExecAllocator(context.Background(), opts...)
	ctx, stop := chromedp.NewContext(alloc)
	t.Cleanup(func() {
		stop()
		stopAlloc()
		os.RemoveAll(profile)
	})
	// The first run starts the process and must not carry a deadline.
	if err := chromedp.Do(ctx, chromedp.Navigate("about:blank")); err != nil {
		t.Fatalf("start chromium: %v", err)
	}
	return &Browser{ctx: ctx, server: server}
}

// Page is one tab with the test page (page/index.html) and the SDK loaded.
type Page struct {
	t   testing.TB
	ctx context.Context
	url string
}

// Open opens a new tab.
func (b *Browser) Open(t testing.TB) *Page {
	t.Helper()
	ctx, cancel := chromedp.NewContext(b.ctx)
	t.Cleanup(cancel)
	p := &Page{t: t, ctx: ctx, url: b.server.URL + "/page/"}
	p.Reload()
	return p
}

// Reload loads the page anew: everything the old document held is gone.
func (p *Page) Reload() {
	p.t.Helper()
	if err := chromedp.Do(p.ctx, chromedp.Navigate(p.url)); err != nil {
		p.t.Fatalf("open page: %v", err)
	}
}

// evalTimeout bounds one Eval: a promise that never settles fails the test.
const evalTimeout = 60 * time.Second

// Eval evaluates a JavaScript expression in the page, awaits it when it is a
// promise, and decodes its value.
func Eval[T any](p *Page, format string, args ...any) T {
	p.t.Helper()
	expression := fmt.Sprintf(format, args...)
	ctx, cancel := context.WithTimeout(p.ctx, evalTimeout)
	defer cancel()
	value, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		p.t.Fatalf("page: %s: %v", expression, err)
	}
	return value
}

// Do evaluates an expression for its effect.
func (p *Page) Do(format string, args ...any) {
	p.t.Helper()
	Eval[bool](p, "Promise.resolve("+format+").then(() => true)", args...)
}

// WaitFor waits until an expression is true.
func (p *Page) WaitFor(limit time.Duration, format string, args ...any) {
	p.t.Helper()
	Eval[bool](p, "until(() => ("+format+"), %d)", append(args, limit.Milliseconds())...)
}
