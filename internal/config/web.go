package config

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/prometheus/exporter-toolkit/web"
	"go.yaml.in/yaml/v3"
)

// CheckWebConfig says what is wrong with a web configuration file or the certificates it names, in one line and without any
// value of the file: it may hold a key, and a password that somebody forgot to hash.
func CheckWebConfig(file string) error {
	text, err := readFile(file)
	if err != nil {
		return err
	}
	if err := checkWebFiles(file, text); err != nil {
		return err
	}
	err = web.Validate(file)
	if err == nil {
		return nil
	}
	why := err.Error()
	if strings.HasPrefix(why, "crypto/bcrypt: ") {
		why = "basic_auth_users: a password is not hashed with bcrypt"
	}
	why = strings.TrimPrefix(why, "yaml: ")
	why = strings.TrimPrefix(why, "unmarshal errors:\n  ")
	why = quotedValue.ReplaceAllString(strings.ReplaceAll(why, "\n  ", "; "), "a value")
	return errors.New(file + ": " + why)
}

// webFiles are the files that a web configuration names.
type webFiles struct {
	TLS struct {
		Cert string `yaml:"cert_file"`
		Key  string `yaml:"key_file"`
		CA   string `yaml:"client_ca_file"`
	} `yaml:"tls_server_config"`
}

// checkWebFiles refuses what web.Validate would take for ever to read. What it complains of itself is left to it.
func checkWebFiles(file string, text []byte) error {
	var doc yaml.Node
	if yaml.Unmarshal(text, &doc) != nil || len(doc.Content) == 0 {
		return nil
	}
	if f := outOfBounds(doc.Content[0]); f != nil {
		return fmt.Errorf("%s:%d: %s", file, f.Line, f.Message)
	}
	var files webFiles
	if doc.Decode(&files) != nil {
		return nil
	}
	for _, f := range []struct{ key, name string }{
		{"cert_file", files.TLS.Cert}, {"key_file", files.TLS.Key}, {"client_ca_file", files.TLS.CA},
	} {
		if f.name == "" {
			continue
		}
		if _, err := readFile(besides(file, f.name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%s: tls_server_config.%s: %w", file, f.key, err)
		}
	}
	return nil
}

// besides is the path of a file that is named in another one.
func besides(file, named string) string {
	if filepath.IsAbs(named) {
		return named
	}
	return filepath.Join(filepath.Dir(file), named)
}

// webKeyFile is the private key that a web configuration names, empty if it names none.
func webKeyFile(file string) string {
	if file == "" {
		return ""
	}
	var files webFiles
	text, err := readFile(file)
	if err != nil || yaml.Unmarshal(text, &files) != nil || files.TLS.Key == "" {
		return ""
	}
	return besides(file, files.TLS.Key)
}

// quotedValue is how the YAML parser quotes what it could not take.
var quotedValue = regexp.MustCompile("(?s)`.*?`")
