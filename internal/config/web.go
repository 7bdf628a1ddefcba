package config

import (
	"errors"
	"regexp"
	"strings"

	"github.com/prometheus/exporter-toolkit/web"
)

// checkWebConfig says what is wrong with a web configuration file or the certificates it names, in one line and without any
// value of the file: it may hold a key, and a password that somebody forgot to hash.
func CheckWebConfig(file string) error {
	if _, err := readFile(file); err != nil {
		return err
	}
	err := web.Validate(file)
	if err == nil {
		return nil
	}
	text := err.Error()
	if strings.HasPrefix(text, "crypto/bcrypt: ") {
		text = "basic_auth_users: a password is not hashed with bcrypt"
	}
	text = strings.TrimPrefix(text, "yaml: ")
	text = strings.TrimPrefix(text, "unmarshal errors:\n  ")
	text = quotedValue.ReplaceAllString(strings.ReplaceAll(text, "\n  ", "; "), "a value")
	return errors.New(file + ": " + text)
}

// quotedValue is how the YAML parser quotes what it could not take.
var quotedValue = regexp.MustCompile("(?s)`.*?`")
