package config

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// checkPatience is what check may take for any file: time of the processor, which other processes do not add to.
const checkPatience = 5 * time.Second

// TestAConfigurationIsCheckedInBoundedTime checks what once took minutes, or might. Each is one fault that tells its line, and its
// key if it has one.
func TestAConfigurationIsCheckedInBoundedTime(t *testing.T) {
	const head = "signaling: {api_key: pk_live_x}\nchannels: [{name: a}]\n"
	deep := func(open, shut string, n int) string { return strings.Repeat(open, n) + "1" + strings.Repeat(shut, n) }
	bomb := "x0: &x0 {a: 1, b: 1}\n"
	for i := range 20 {
		bomb += fmt.Sprintf("x%d: &x%d [%s*x%d]\n", i+1, i+1, strings.Repeat(fmt.Sprintf("*x%d, ", i), 9), i)
	}
	many := func(format string, n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, format, i)
		}
		return b.String()
	}
	for _, tt := range []struct{ name, text, want string }{
		{"deep metadata", head + "bot: {metadata: " + deep("{a: ", "}", 5000) + "}\n", `:3: bot\.metadata\.a\..*: nested more than 32 deep`},
		{"metadata as deep as may be", head + "bot: {metadata: " + deep("{a: ", "}", 30) + "}\n", ``},
		{"deep lists", head + "bot: {metadata: {a: " + deep("[", "]", 9000) + "}}\n", `:3: bot\.metadata\.a\[0\].*: nested more than 32 deep`},
		{"deeper than the parser goes", head + "bot: {metadata: {a: " + deep("[", "]", 200_000) + "}}\n", `: .*depth`},
		{"deep blocks", head + "bot:\n  metadata:\n" + func() string {
			var b strings.Builder
			for i := range 1200 {
				b.WriteString(strings.Repeat(" ", 4+i) + "a:\n")
			}
			return b.String()
		}(), `:\d+: bot\.metadata\.a\..*: nested more than 32 deep`},
		{"open brackets", head + strings.Repeat("[", 500_000), `: .`},
		{"open braces", head + "bot: " + strings.Repeat("{a: ", 200_000), `: .`},
		{"aliases of aliases", head + bomb, `: x\d+.*: (more than 500000 values|nested more)`},
		{"an alias to itself", head + "bot: &b {metadata: *b}\n", `:3: bot\.metadata.*: nested more than 32 deep`},
		{"a merge of itself", head + "bot: &b {<<: *b}\n", `:3: bot.*: nested more than 32 deep`},
		{"many aliases of a list", head + "bot: {metadata: {l: &l [" + many("%d,", 9000) + "], m: [" + strings.Repeat("*l,", 9000) + "]}}\n",
			`:3: bot\.metadata\.m\[\d+\].*: more than 500000 values`},
		{"100,000 channels", "signaling: {api_key: pk_live_x}\nchannels: [" + strings.Repeat("{name: a},", 100_000) + "]\n",
			`:2: channels: a list of 100000, at most 10000 are allowed`},
		{"10,000 channels", "signaling: {api_key: pk_live_x}\nchannels: [" + many("{name: c%d},", 10_000) + "]\n", ``},
		{"10,000 bad channels", "signaling: {api_key: pk_live_x}\nchannels: [" + many("{name: c%d, roles: 1, x: 1, audio: 7},", 10_000) + "]\n", `(?s):2: channels\[0\].*\n.*: \d+ more faults$`},
		{"one channel 10,000 times", "signaling: {api_key: pk_live_x}\nchannels: [" + strings.Repeat("{name: a},", 10_000) + "]\n", `(?s)channels\[1\]\.name.*: \d+ more faults$`},
		{"a channel 10,000 times", "signaling: {api_key: pk_live_x}\nchannels: [&a {name: a}," + strings.Repeat("*a,", 9_000) + "]\n", `(?s)channels\[1\]\.name.*: \d+ more faults$`},
		{"many keys", head + many("k%d: 1\n", 60_000), `:1: a map of 60002 keys, at most 1000 are allowed`},
		{"one key very often", head + "bot: {" + strings.Repeat("a,", 300_000) + "}", `:3: bot: a map of 300000 keys`},
		{"one key twice", head + "bot:\n  name: x\n  name: y\n", `:5: mapping key "name" already defined at line 4$`},
		{"unknown keys", head + "bot: {" + many("k%d: 1,", 900) + "}\n", `(?s):3: bot\.k0: unknown key.*: \d+ more faults$`},
		{"a huge key", head + "? " + strings.Repeat("k", 900_000) + "\n: 1\n", `^.{1,400}unknown key .*$`},
		{"a huge name", "signaling: {api_key: pk_live_x}\nchannels:\n- name: " + strings.Repeat("n", 900_000), `:3: channels\[0\]\.name: .{1,300}$`},
		{"a huge value of another kind", head + "http: {pprof: " + strings.Repeat("n", 900_000) + "}", `:3: http\.pprof: want true or false$`},
		{"a huge number", head + "webrtc: {udp_port: " + strings.Repeat("9", 900_000) + "}", `:3: webrtc\.udp_port: .{1,300}$`},
		{"a huge duration", head + "shutdown_timeout: " + strings.Repeat("9", 900_000) + "s", `:3: shutdown_timeout: .{1,300}$`},
		{"a huge size", head + "recordings: {min_free: " + strings.Repeat("9", 900_000) + "B}", `:3: recordings\.min_free: .{1,300}$`},
		{"a huge base64", head + "bot: {metadata: {a: !!binary " + strings.Repeat("A", 900_000) + "}}", `:3: bot\.metadata: takes`},
		{"10 MB", head + strings.Repeat("# ten bytes\n", 900_000), `: larger than 1048576 bytes`},
		{"tabs", "signaling:\n\tapi_key: pk_live_x\n", `:[12]: .*tabs`},
		{"a NUL", head + "bot: {name: \"a\x00b\"}\n", `:3: byte 0x00 is a control character$`},
		{"an escape", head + "bot:\n  name: \x1b[31m\n", `:4: byte 0x1b is a control character$`},
		{"no UTF-8", head + "\n\nbot: {name: \xff}\n", `:5: byte 0xff is no UTF-8$`},
		{"NULs alone", strings.Repeat("\x00", 1<<20), `:1: byte 0x00`},
		{"an unfinished string", head + "bot: {name: \"" + strings.Repeat("a\n", 300_000), `: .`},
		{"many documents", head + strings.Repeat("---\n", 200_000), `: want one document`},
		{"many anchors", head + "bot: {metadata: {a: [" + many("&a%d 1,", 9_999) + "]}}\n", `:3: bot\.metadata: takes`},
		{"a comment", "#" + strings.Repeat("#", 1_000_000) + "\n" + head, ``},
		{"many comments", strings.Repeat("#\n", 400_000) + head, ``},
		{"UTF-16", "\xff\xfes\x00:\x00 \x001\x00", `: s: unknown key|signaling`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := write(t, tt.text)
			began := cpuTime()
			_, err := Load(file)
			if took := cpuTime() - began; took > checkPatience {
				t.Errorf("it took %v", took)
			} else if took > 500*time.Millisecond {
				t.Logf("it took %v", took)
			}
			switch {
			case tt.want == "" && err != nil:
				t.Errorf("refused: %.1000v", err)
			case tt.want != "" && err == nil:
				t.Error("taken")
			case err != nil && !regexp.MustCompile(tt.want).MatchString(strings.ReplaceAll(err.Error(), filepath.Dir(file), "")):
				t.Errorf("got %.1000s\nwant %s", err, tt.want)
			case err != nil && len(err.Error()) > 100<<10:
				t.Errorf("%d bytes of error", len(err.Error()))
			}
		})
	}
}

// TestOnlyRegularFilesAreRead has the configuration, and each key that names a file, lead to what would block for ever or is no
// file.
func TestOnlyRegularFilesAreRead(t *testing.T) {
	dir := t.TempDir()
	pipe, socket := filepath.Join(dir, "pipe"), filepath.Join(dir, "socket")
	must(t, syscall.Mkfifo(pipe, 0o600))
	listener, err := net.Listen("unix", socket)
	must(t, err)
	defer listener.Close()
	link := filepath.Join(dir, "link")
	must(t, os.Symlink(pipe, link))
	for name, config := range map[string]string{
		"signaling.api_key_file":           "signaling: {api_key_file: %s}\nchannels: [{name: a}]\n",
		"signaling.secret_key.secret_file": "signaling: {secret_key: {id: sk_id_1, secret_file: %s}}\nchannels: [{name: a}]\n",
		"signaling.token_url_file":         "signaling: {token_url_file: %s}\nchannels: [{name: a}]\n",
		"http.web_config_file":             "signaling: {api_key: pk_live_x}\nhttp: {web_config_file: %s}\nchannels: [{name: a}]\n",
		"cert_file":                        "tls_server_config: {cert_file: %s, key_file: x}\n",
		"key_file":                         "tls_server_config: {cert_file: testdata/empty, key_file: %s}\n",
		"client_ca_file":                   "tls_server_config: {cert_file: x, key_file: x, client_ca_file: %s}\n",
		"":                                 "",
	} {
		for file, what := range map[string]string{pipe: "a pipe", link: "a pipe", socket: "a socket", dir: "a directory", "/dev/zero": "a device", "/dev/tty": "a device"} {
			config, path := fmt.Sprintf(config, file), file
			if strings.HasPrefix(config, "tls_server_config") {
				config = fmt.Sprintf("signaling: {api_key: pk_live_x}\nhttp: {web_config_file: %s}\nchannels: [{name: a}]\n", write(t, config))
			}
			if name != "" {
				path = write(t, config)
			}
			_, err := Load(path)
			if err == nil || !strings.Contains(err.Error(), file+": want a regular file, not "+what) || !strings.Contains(err.Error(), name) {
				t.Errorf("%s, %s: %v", name, what, err)
			}
		}
	}
}

// TestSecretsAreReadAsKubernetesMountsThem has a key behind the links that a secret's volume is made of.
func TestSecretsAreReadAsKubernetesMountsThem(t *testing.T) {
	dir := t.TempDir()
	must(t, os.Mkdir(filepath.Join(dir, "..2026"), 0o700))
	must(t, os.WriteFile(filepath.Join(dir, "..2026", "key"), []byte("pk_live_x\n"), 0o400))
	must(t, os.Symlink("..2026", filepath.Join(dir, "..data")))
	must(t, os.Symlink("..data/key", filepath.Join(dir, "key")))
	cfg := load(t, "signaling: {api_key_file: "+filepath.Join(dir, "key")+"}\nchannels: [{name: a}]\n")
	if cfg.Signaling.APIKey != "pk_live_x" {
		t.Errorf("got %q", cfg.Signaling.APIKey)
	}
}

func TestAFileWithACredentialThatOthersMayTouchIsWarnedOf(t *testing.T) {
	for mode, want := range map[os.FileMode]string{
		0o600: "", 0o400: "", 0o640: "", 0o440: "",
		0o644: "everyone on this machine may read it: mode 0644; chmod o-r",
		0o444: "everyone on this machine may read it: mode 0444; chmod o-r",
		0o660: "its group may write it: mode 0660; chmod g-w",
		0o666: "everyone may write it: mode 0666; chmod o-w",
		0o602: "everyone may write it: mode 0602; chmod o-w",
	} {
		for _, key := range []string{"api_key_file", "token_url_file", "secret_file", "web_config_file", "key_file", "config"} {
			t.Run(fmt.Sprintf("%s %04o", key, mode), func(t *testing.T) {
				file, config := credentialFile(t, key)
				must(t, os.Chmod(file, mode))
				cfg, err := Load(config)
				must(t, err)
				found := slices.DeleteFunc(cfg.Exposures(config), func(w string) bool { return !strings.HasPrefix(w, file+" holds a credential") })
				if want == "" && len(found) > 0 || want != "" && (len(found) != 1 || !strings.HasSuffix(found[0], want)) {
					t.Errorf("%q, want %q", found, want)
				}
			})
		}
	}
}

// credentialFile returns a file with a credential that key names, and a configuration.
func credentialFile(t *testing.T, key string) (file, config string) {
	t.Helper()
	signaling, http := "{api_key: pk_live_x}", "{}"
	switch key {
	case "api_key_file":
		file = secretFile(t, "pk_live_x")
		signaling = "{api_key_file: " + file + "}"
	case "token_url_file":
		file = secretFile(t, "https://example.com/token")
		signaling = "{token_url_file: " + file + "}"
	case "secret_file":
		file = secretFile(t, "sk_secret_x")
		signaling = "{secret_key: {id: sk_id_x, secret_file: " + file + "}}"
	case "web_config_file":
		file = secretFile(t, "rate_limit: {burst: 1}\n")
		http = "{web_config_file: " + file + "}"
	case "key_file":
		web := secretFile(t, certificate(t, ""))
		file = webKeyFile(web)
		http = "{web_config_file: " + web + "}"
	}
	config = write(t, "signaling: "+signaling+"\nhttp: "+http+"\nchannels: [{name: a}]\n")
	if key == "config" {
		file = config
	}
	return file, config
}

func TestACredentialInADirectoryThatEveryoneMayWriteIsWarnedOf(t *testing.T) {
	file := secretFile(t, "pk_live_x")
	for mode, want := range map[os.FileMode]bool{0o755: false, 0o777: true, 0o777 | os.ModeSticky: false} {
		must(t, os.Chmod(filepath.Dir(file), mode))
		if got := exposure(file); (got != "") != want {
			t.Errorf("%v: %q", mode, got)
		}
	}
}

// cpuTime is what the process has used. Other work on the machine does not count.
func cpuTime() time.Duration {
	var r syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &r) != nil {
		return 0
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

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
