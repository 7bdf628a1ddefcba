package devserver_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/golang-jwt/jwt/v5"

	"recorder/internal/e2e"
	"recorder/internal/lab/devserver"
)

// tab is the join page, open in a real browser.
type tab struct {
	t   *testing.T
	ctx context.Context
}

// startChromium returns a function that opens the page at a URL in a new tab.
func startChromium(t *testing.T) (open func(url string) *tab) {
	t.Helper()
	profile, err := os.MkdirTemp("", "devserver-page-") // not t.TempDir: Chromium's children may outlive it for a moment
	if err != nil {
		t.Fatal(err)
	}
	opts := []chromedp.ExecAllocatorOption{chromedp.ExecPath(e2e.Tool(t, "chromium", "chromium-browser", "google-chrome")), chromedp.UserDataDir(profile)}
	for flag, value := range map[string]any{
		"headless": "new", "no-sandbox": true, "disable-gpu": true, "disable-quic": true, "disable-dev-shm-usage": true, "no-first-run": true,
		"disable-background-networking": true, "disable-component-update": true, "disable-sync": true, "mute-audio": true,
		"use-fake-device-for-media-stream": true, "use-fake-ui-for-media-stream": true, "allow-loopback-in-peer-connection": true,
		"autoplay-policy": "no-user-gesture-required", "auto-select-desktop-capture-source": "Entire screen",
		"disable-renderer-backgrounding": true, "disable-background-timer-throttling": true, "disable-backgrounding-occluded-windows": true,
	} {
		opts = append(opts, chromedp.Flag(flag, value))
	}
	allocator, stopAllocator := chromedp.NewExecAllocator(context.Background(), opts...)
	browser, stopBrowser := chromedp.NewContext(allocator)
	t.Cleanup(func() {
		stopBrowser()
		stopAllocator()
		os.RemoveAll(profile)
	})
	if err := chromedp.Do(browser, chromedp.Navigate("about:blank")); err != nil { // starts the process, so no deadline
		t.Fatalf("start chromium: %v", err)
	}
	return func(url string) *tab {
		t.Helper()
		ctx, cancel := chromedp.NewContext(browser)
		t.Cleanup(cancel)
		if err := chromedp.Do(ctx, chromedp.Navigate(url)); err != nil {
			t.Fatalf("open %s: %v", url, err)
		}
		return &tab{t: t, ctx: ctx}
	}
}

// waitFor waits until a JavaScript condition holds on the page.
func (p *tab) waitFor(condition string) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, 90*time.Second) // a busy machine takes its time to gather candidates
	defer cancel()
	const wait = `new Promise((resolve, reject) => {
		const end = performance.now() + 60000;
		const states = () => [...peer?.peers?.values() ?? []].map(({ id, pc }) =>
			[id, pc.signalingState, pc.iceGatheringState, pc.iceConnectionState, pc.connectionState].join(" ")).join("\n");
		(function look() {
			if (CONDITION) resolve(true);
			else if (performance.now() > end) reject(new Error(document.body.innerText + "\n" + states()));
			else setTimeout(look, 20);
		})();
	})`
	if _, err := chromedp.Run(ctx, chromedp.Evaluate[bool](strings.Replace(wait, "CONDITION", condition, 1), chromedp.EvalAwaitPromise)); err != nil {
		p.t.Fatalf("page is not as expected (%s): %v", condition, err)
	}
}

// click presses a button as a person does; one that is disabled or hidden does not answer.
func (p *tab) click(id string) {
	p.t.Helper()
	p.waitFor(`!element("` + id + `").disabled`)
	ctx, cancel := context.WithTimeout(p.ctx, 10*time.Second)
	defer cancel()
	if err := chromedp.Do(ctx, chromedp.Click("#"+id)); err != nil {
		p.t.Fatalf("click %s: %v", id, err)
	}
}

// join fills in the form and sends it.
func (p *tab) join(credential string) {
	p.t.Helper()
	p.waitFor(`!element("join").disabled`)
	if err := chromedp.Do(p.ctx, chromedp.SetValue("#credential", credential)); err != nil {
		p.t.Fatal(err)
	}
	p.click("join")
}

// playing is the condition that another member's n-th video shows moving pictures. The role is no help here: where both sides
// publish, the SDK cannot always tell which track a label belongs to.
func playing(n int) string {
	return fmt.Sprintf(`[document.querySelectorAll("#members li[data-state=connected] video")[%d]].some(v => v?.videoWidth > 0 && v.currentTime > 0.2)`, n)
}

func TestPeopleMeetOnTheJoinPage(t *testing.T) {
	sdk := e2e.SDK(t)
	open := startChromium(t)
	server := devserver.New(devserver.Options{SDKFile: sdk, Secrets: map[string]string{"sk_id_page": "sk_secret_page"}})
	defer server.Close()
	web := httptest.NewServer(server)
	defer web.Close()
	unsigned := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
		"sub": "bob", "exp": time.Now().Add(time.Hour).Unix(), "peerMetadata": map[string]string{"name": "Bob the Builder"},
	})
	unsigned.Header["kid"] = "sk_id_page"
	token, err := unsigned.SignedString([]byte("sk_secret_page"))
	if err != nil {
		t.Fatal(err)
	}

	alice, bob := open(web.URL+"/?channel=room-42"), open(web.URL+"/?channel=room-42")
	alice.join("pk_live_page")
	alice.waitFor(`element("status").textContent.startsWith("Joined room-42")`)
	bob.join(token)
	bob.waitFor(`element("status").textContent === "Joined room-42 as bob."`)
	if got := server.Members("room-42"); len(got) != 2 || got[1] != "bob" {
		t.Errorf("members %q", got)
	}
	alice.waitFor(playing(0))
	bob.waitFor(playing(0))
	alice.waitFor(`members.innerText.includes("Bob the Builder")`)

	alice.click("mute")
	alice.waitFor(`element("mute").getAttribute("aria-pressed") === "true" && !camera.getAudioTracks()[0].enabled`)
	alice.click("mute")
	alice.waitFor(`element("mute").getAttribute("aria-pressed") === "false" && camera.getAudioTracks()[0].enabled`)

	bob.click("share")
	alice.waitFor(playing(1))
	bob.click("share")
	alice.waitFor(`document.querySelectorAll("#members li[data-state=connected] video").length === 1`)

	server.Refuse(http.StatusServiceUnavailable) // else it is back too soon to be seen reconnecting
	server.Drop("bob", devserver.Drop{})
	bob.waitFor(`element("status").textContent.includes("Reconnecting")`)
	server.Refuse(0)
	bob.waitFor(`element("status").textContent === "Joined room-42 as bob."`)
	bob.waitFor(playing(0))
	alice.waitFor(playing(0))

	server.Drop("bob", devserver.Drop{Code: devserver.CloseAdminDisconnect})
	bob.waitFor(`!element("problem").hidden && element("problem").textContent.includes("4020")`)
	alice.waitFor(`members.children.length === 1`)
	alice.click("leave")
	alice.waitFor(`element("status").textContent === "Ready." && !element("join").disabled && members.children.length === 0 && camera === null`)

	alice.join("sk_secret_page")
	alice.waitFor(`element("problem").textContent.includes("4001")`)
	alice.join("pk_live_page")
	alice.waitFor(`element("problem").hidden && element("status").textContent.startsWith("Joined")`)
}

func TestThePageSaysWhenTheSDKCannotBeLoaded(t *testing.T) {
	open := startChromium(t)
	notTheSDK := filepath.Join(t.TempDir(), "other.js")
	if err := os.WriteFile(notTheSDK, []byte("var x = 1"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		opts devserver.Options
		want string
	}{
		{devserver.Options{SDKFile: filepath.Join(t.TempDir(), "missing.js")}, "could not be loaded from /sdk.js"},
		{devserver.Options{SDKURL: "http://127.0.0.1:1/sdk.js"}, "could not be loaded from http://127.0.0.1:1/sdk.js"},
		{devserver.Options{SDKFile: notTheSDK}, "is not the UMD build"},
	} {
		server := devserver.New(c.opts)
		web := httptest.NewServer(server)
		page := open(web.URL)
		page.waitFor(`!element("problem").hidden && element("problem").textContent.includes("` + c.want + `")`)
		page.waitFor(`element("problem").textContent.includes("--sdk") && element("join").disabled`)
		web.Close()
		server.Close()
	}
}
