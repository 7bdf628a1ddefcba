package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"recorder/internal/config"
)

// users is basic_auth_users with alice, whose password is TOPSECRET.
const users = "basic_auth_users: {alice: $2a$04$CpGyep3Qhn/OdWIDlfprre6alai9oEKVsFoSey9oN22tcfeXlzOOq}\n"

// certificate writes a certificate for loopback and its key, and returns the part of a web configuration that names them.
func certificate(t *testing.T, more string) string {
	t.Helper()
	server := httptest.NewTLSServer(nil)
	defer server.Close()
	pair := server.TLS.Certificates[0]
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	must(t, err)
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "crt"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]}), 0o600))
	must(t, os.WriteFile(filepath.Join(dir, "key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}), 0o600))
	return fmt.Sprintf("tls_server_config: {cert_file: %s, key_file: %s%s}\n", filepath.Join(dir, "crt"), filepath.Join(dir, "key"), more)
}

// serveWith returns where a recorder with a web configuration answers.
func serveWith(t *testing.T, webConfig string) config.HTTPConfig {
	t.Helper()
	cfg := testConfig(t, "ws://127.0.0.1:1", testSecret, "a")
	cfg.HTTP.WebConfigFile = secretFile(t, webConfig)
	must(t, config.CheckWebConfig(cfg.HTTP.WebConfigFile))
	app := startApp(t, cfg)
	cfg.HTTP.Listen = app.Addr().String()
	return cfg.HTTP
}

// status asks a server, whatever certificate it has, and returns how it answers.
func status(t *testing.T, address, user, password string) int {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	must(t, err)
	if user != "" {
		request.SetBasicAuth(user, password)
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	response, err := client.Do(request)
	must(t, err)
	defer response.Body.Close()
	_, err = io.Copy(io.Discard, response.Body)
	must(t, err)
	return response.StatusCode
}

func TestTLSAndPasswordsGuardEveryPath(t *testing.T) {
	server := serveWith(t, certificate(t, "")+users)
	for _, path := range []string{"/metrics", "/healthz", "/readyz", "/elsewhere"} {
		open := http.StatusOK
		if path == "/elsewhere" {
			open = http.StatusNotFound
		}
		for _, tt := range []struct {
			scheme, user, password string
			want                   int
		}{
			{"http", "alice", "TOPSECRET", http.StatusBadRequest},
			{"https", "", "", http.StatusUnauthorized},
			{"https", "alice", "wrong", http.StatusUnauthorized},
			{"https", "bob", "TOPSECRET", http.StatusUnauthorized},
			{"https", "alice", "TOPSECRET", open},
		} {
			if got := status(t, tt.scheme+"://"+server.Listen+path, tt.user, tt.password); got != tt.want {
				t.Errorf("%s%s as %q: %d, want %d", tt.scheme, path, tt.user, got, tt.want)
			}
		}
	}
}

func TestAChangedWebConfigurationHoldsAtOnce(t *testing.T) {
	config := certificate(t, "")
	server := serveWith(t, config)
	if got := status(t, "https://"+server.Listen+"/healthz", "", ""); got != http.StatusOK {
		t.Errorf("got %d", got)
	}
	must(t, os.WriteFile(server.WebConfigFile, []byte(config+users), 0o600))
	if got := status(t, "https://"+server.Listen+"/healthz", "", ""); got != http.StatusUnauthorized {
		t.Errorf("with passwords: %d", got)
	}
	must(t, os.WriteFile(server.WebConfigFile, []byte(config+"x"), 0o600))
	if err := healthcheck(t.Context(), server); err != nil {
		t.Errorf("alive, with a file that went wrong: %v", err)
	}
}

// A recorder is alive whatever it wants to know of who asks; Docker's HEALTHCHECK has nothing to show.
func TestHealthcheckTakesARefusalForAnAnswer(t *testing.T) {
	for name, config := range map[string]string{
		"plain":                       "http_server_config: {http2: false}\n",
		"password":                    users,
		"TLS":                         certificate(t, ""),
		"TLS and password":            certificate(t, "") + users,
		"client certificate":          certificate(t, ", client_auth_type: RequireAnyClientCert"),
		"client certificate, TLS 1.2": certificate(t, ", client_auth_type: RequireAnyClientCert, max_version: TLS12"),
		"too often":                   "rate_limit: {interval: 1h, burst: 1}\n",
	} {
		t.Run(name, func(t *testing.T) {
			server := serveWith(t, config)
			file := write(t, fmt.Sprintf("http: {listen: '%s', web_config_file: '%s'}\n", server.Listen, server.WebConfigFile))
			for range 2 {
				if code, _, stderr := try(t, t.Context(), "healthcheck", "-c", file); code != exitOK {
					t.Errorf("exit code %d: %s", code, stderr)
				}
			}
		})
	}
}

func TestHealthcheckOverTLSIsNotFooledByAnother(t *testing.T) {
	webConfig := secretFile(t, certificate(t, ""))
	sick := httptest.NewTLSServer(http.NotFoundHandler())
	defer sick.Close()
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	elsewhere := httptest.NewServer(http.RedirectHandler("http://127.0.0.1:1/", http.StatusFound))
	defer elsewhere.Close()
	for _, server := range []*httptest.Server{sick, plain, elsewhere} {
		cfg := config.HTTPConfig{Listen: server.Listener.Addr().String(), WebConfigFile: webConfig}
		if err := healthcheck(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "answered ") {
			t.Errorf("got %v", err)
		}
	}
}

func TestABadWebConfigurationIsOneErrorOfRunAndCheck(t *testing.T) {
	t.Setenv("RECORDER_SIGNALING_API_KEY", testKey)
	file := write(t, "http: {web_config_file: "+secretFile(t, "basic_auth_users: {alice: TOPSECRET}\n")+"}\nchannels: [{name: a}]\n")
	for _, command := range []string{"run", "check"} {
		code, _, stderr := try(t, t.Context(), command, "-c", file)
		if code != exitUsage || strings.Count(stderr, "\n") != 1 || strings.Contains(stderr, "TOPSECRET") ||
			!strings.HasPrefix(stderr, file+":1: http.web_config_file: ") {
			t.Errorf("%s: exit code %d\n%s", command, code, stderr)
		}
	}
}

func TestProfilesAreServedWhenAskedForOnly(t *testing.T) {
	for _, profiles := range []bool{false, true} {
		cfg := testConfig(t, "ws://127.0.0.1:1", testSecret, "a")
		cfg.HTTP.Pprof = profiles
		app := startApp(t, cfg)
		want := http.StatusNotFound
		if profiles {
			want = http.StatusOK
		}
		for _, path := range []string{"", "heap", "goroutine?debug=2", "cmdline", "profile?seconds=1", "trace?seconds=0.1"} {
			if got := status(t, "http://"+app.Addr().String()+"/debug/pprof/"+path, "", ""); got != want {
				t.Errorf("%s: %d, want %d", path, got, want)
			}
		}
	}
}

// A profile that somebody takes is longer than a stop should wait.
func TestAStopDoesNotWaitForAProfile(t *testing.T) {
	cfg := testConfig(t, "ws://127.0.0.1:1", testSecret, "a")
	cfg.HTTP.Pprof = true
	app := startApp(t, cfg)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+app.Addr().String()+"/debug/pprof/trace?seconds=60", nil)
	must(t, err)
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request) // returns with the beginning of the trace
	must(t, err)
	defer response.Body.Close()
	began := time.Now()
	if err := app.Stop(t.Context()); err != nil || time.Since(began) > 10*time.Second {
		t.Errorf("stopped after %v: %v", time.Since(began), err)
	}
}
