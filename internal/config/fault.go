package config

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Fault is one thing wrong with the configuration.
type Fault struct {
	Key     string `json:"key,omitempty"`  // empty if the file as a whole is at fault
	Line    int    `json:"line,omitempty"` // in the file; 0 if the key does not stand there
	Env     string `json:"env,omitempty"`  // the variable that set the key, if one did
	Message string `json:"message"`
}

// ConfigError is everything wrong with one configuration, in the order of the file. No value of a credential is in it.
type ConfigError struct {
	Path   string
	Faults []Fault
}

// Error puts each fault on a line of its own, the way compilers do.
func (e *ConfigError) Error() string {
	var b strings.Builder
	for i, f := range e.Faults {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(e.Path)
		if f.Line > 0 {
			fmt.Fprintf(&b, ":%d", f.Line)
		}
		if f.Key != "" {
			fmt.Fprintf(&b, ": %s", f.Key)
		}
		if f.Env != "" {
			fmt.Fprintf(&b, " (from %s)", f.Env)
		}
		fmt.Fprintf(&b, ": %s", f.Message)
	}
	return b.String()
}

// fault notes what is wrong with a key, unless it follows from an earlier fault: of the key itself, of one around it, or of the
// file that the key should have come from.
func (l *loader) fault(key, format string, args ...any) {
	key = l.origin(key)
	if l.faulty(key) {
		return
	}
	f := Fault{Key: key, Env: l.env[key], Message: fmt.Sprintf(format, args...)}
	if f.Env == "" {
		f.Line = l.lineOf(key)
	}
	l.add(f)
}

// maxFaults is how many faults of a configuration are named, each in so much text.
const (
	maxFaults  = 100
	maxMessage = 500
)

// add notes a fault, or that there are more.
func (l *loader) add(f Fault) {
	if len(l.faults) == maxFaults {
		l.more++
		return
	}
	if len(f.Message) > maxMessage {
		f.Message = strings.ToValidUTF8(f.Message[:maxMessage], "") + "…"
	}
	l.faults = append(l.faults, f)
}

// faulty reports whether a key, as the file has it, or one around it has a fault already.
func (l *loader) faulty(key string) bool {
	for outer := key; outer != ""; outer = parent(outer) {
		if slices.ContainsFunc(l.faults, func(f Fault) bool { return f.Key == outer || f.Key == outer+"_file" }) {
			return true
		}
	}
	return false
}

// yamlLine is how the YAML parser begins a message about a line.
var yamlLine = regexp.MustCompile(`^line ([0-9]+): `)

// yamlCures are what most often helps against messages that name a symptom.
var yamlCures = map[string]string{
	"did not find expected ',' or ']'":               "quote what has a ? or : in it",
	"cannot start any token":                         "indent with spaces, not tabs, and quote what begins with a sign",
	"mapping values are not allowed in this context": "quote what has a colon and a space in it, and check the indentation",
}

// yamlFaults notes what the YAML parser complains of.
func (l *loader) yamlFaults(err error) {
	messages := []string{err.Error()}
	if many, ok := errors.AsType[*yaml.TypeError](err); ok {
		messages = many.Errors
	} else if inner := errors.Unwrap(err); inner != nil {
		messages = []string{inner.Error()}
	}
	for _, message := range messages {
		f := Fault{Message: strings.TrimPrefix(message, "yaml: ")}
		if m := yamlLine.FindStringSubmatch(f.Message); m != nil {
			f.Line, _ = strconv.Atoi(m[1]) // digits
			f.Message = strings.TrimPrefix(f.Message, m[0])
		}
		for symptom, cure := range yamlCures {
			if strings.Contains(f.Message, symptom) {
				f.Message += ": " + cure
			}
		}
		l.add(f)
	}
}

// origin returns the key that a value comes from: the one in defaults, if a channel inherited it.
func (l *loader) origin(key string) string {
	channel, option, ok := strings.Cut(key, "].")
	option, _, _ = strings.Cut(option, "[")
	if !ok || !strings.HasPrefix(channel, "channels[") || l.lines[channel+"]."+option] > 0 || option == "name" {
		return key
	}
	return "defaults." + strings.TrimPrefix(key, channel+"].")
}

// lineOf returns the line of a key or, if the file does not have it, of the nearest key around it.
func (l *loader) lineOf(key string) int {
	for ; key != ""; key = parent(key) {
		if line, ok := l.lines[key]; ok {
			return line
		}
	}
	return 0
}

// parent returns the key around key: channels of channels[0], channels[0] of channels[0].name.
func parent(key string) string {
	return key[:max(strings.LastIndexAny(key, ".["), 0)]
}

func (l *loader) error() *ConfigError {
	slices.SortStableFunc(l.faults, func(a, b Fault) int { return cmp.Compare(a.Line, b.Line) })
	faults := slices.Clone(l.faults)
	for i := range faults {
		faults[i].Key = shortKey(faults[i].Key)
	}
	if l.more > 0 {
		faults = append(faults, Fault{Message: fmt.Sprintf("%d more faults", l.more)})
	}
	return &ConfigError{Path: l.path, Faults: faults}
}
