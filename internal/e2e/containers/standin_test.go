//go:build linux

package containers

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"recorder/internal/e2e"
)

// A standIn takes the name of an image that would come from a registry. It has that image's configuration, and of its files
// those that are used here, made from this machine's.
type standIn struct {
	name   string
	copies map[string]string // files and trees of this machine by their path in the image; programs bring their libraries
	texts  map[string]string // small files by path
	open   string            // a directory that everybody may write to
	config []string          // as in a Dockerfile
}

// baseImages are those of the Dockerfile.
func baseImages(t testing.TB, goproxy string) []standIn {
	t.Helper()
	goroot := strings.TrimSpace(command(t, time.Minute, nil, "go", "env", "GOROOT"))
	const certificates = "/etc/ssl/certs/ca-certificates.crt"
	return []standIn{{
		name:   "golang:1.26-bookworm",
		copies: map[string]string{"/bin/sh": "/bin/sh", "/bin/mkdir": "/bin/mkdir", "/usr/local/go": goroot},
		open:   "/tmp",
		config: []string{
			"ENV PATH=/go/bin:/usr/local/go/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
			"ENV GOPATH=/go", "ENV GOTOOLCHAIN=local", "ENV GOPROXY=" + goproxy, "WORKDIR /go",
		},
	}, {
		name:   "gcr.io/distroless/static-debian12:nonroot",
		copies: map[string]string{certificates: certificates},
		texts: map[string]string{
			"/etc/passwd": "root:x:0:0:root:/root:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n",
			"/etc/group":  "root:x:0:\nnonroot:x:65532:\n",
		},
		open: "/tmp",
		config: []string{
			"ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
			"ENV SSL_CERT_FILE=" + certificates, "USER 65532", "WORKDIR /home/nonroot",
		},
	}}
}

// prometheusImage has Debian's Prometheus in it.
func prometheusImage(t testing.TB, name string) standIn {
	t.Helper()
	return standIn{
		name:   name,
		copies: map[string]string{"/bin/prometheus": e2e.Tool(t, "prometheus")},
		texts:  map[string]string{"/etc/passwd": "nobody:x:65534:65534:nobody:/home:/bin/false\n", "/etc/group": "nobody:x:65534:\n"},
		open:   "/prometheus",
		config: []string{
			"USER nobody", "WORKDIR /prometheus", "VOLUME /prometheus", `ENTRYPOINT ["/bin/prometheus"]`,
			`CMD ["--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/prometheus"]`,
		},
	}
}

// load makes the image.
func (s standIn) load(t testing.TB, d *docker) {
	t.Helper()
	dir := t.TempDir()
	rootfs, archive := filepath.Join(dir, "rootfs"), filepath.Join(dir, "rootfs.tar")
	for path, from := range s.copies {
		place(t, from, filepath.Join(rootfs, path))
		for _, library := range libraries(from) {
			place(t, library, filepath.Join(rootfs, library))
		}
	}
	for path, text := range s.texts {
		path = filepath.Join(rootfs, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	command(t, time.Minute, nil, "mkdir", "-m", "1777", filepath.Join(rootfs, s.open))
	command(t, 5*time.Minute, nil, "tar", "-C", rootfs, "--numeric-owner", "-cf", archive, ".")
	args := []string{"import"}
	for _, change := range s.config {
		args = append(args, "--change", change)
	}
	d.run(append(args, archive, s.name)...)
}

// place copies a file or a tree, through links.
func place(t testing.TB, from, to string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		t.Fatal(err)
	}
	command(t, 5*time.Minute, nil, "cp", "-rLT", "--preserve=mode", from, to)
}

var library = regexp.MustCompile(`(?m)(/\S+) \(0x[0-9a-f]+\)$`)

// libraries returns what a program is linked with when it starts, which for other files is nothing.
func libraries(program string) []string {
	out, err := exec.Command("ldd", program).Output()
	if err != nil {
		return nil
	}
	var paths []string
	for _, match := range library.FindAllStringSubmatch(string(out), -1) {
		paths = append(paths, match[1])
	}
	return paths
}
