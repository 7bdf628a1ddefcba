package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-viper/mapstructure/v2"
	"github.com/prometheus/common/model"
	"github.com/spf13/viper"
	"go.yaml.in/yaml/v3"
)

// Load reads the file at path, lays the environment over it and checks everything. Its error, when the file could be
// read at all, is a *ConfigError that holds every fault. It connects to nothing; of the files that the configuration
// names it reads those with credentials.
func Load(path string) (*Config, error) {
	cfg, _, err := LoadFiles(path)
	return cfg, err
}

// LoadFiles is loadConfig, and returns what was in the files that it read, with an error too.
func LoadFiles(path string) (*Config, Contents, error) {
	l := newLoader(path)
	text, err := l.readFile(path, readConfiguration)
	if err != nil {
		return nil, l.read, fmt.Errorf("read configuration: %w", err)
	}
	cfg := Default()
	if l.decode(text, &cfg) {
		l.check(&cfg)
	}
	if len(l.faults) > 0 {
		return nil, l.read, l.error()
	}
	return &cfg, l.read, nil
}

// Contents is what was in the files of a configuration when they were read, nil for what could not be.
type Contents map[string][]byte

// Changed reports whether something else is in one of them now.
func (c Contents) Changed() bool {
	for file, before := range c {
		if now, _ := readFile(file); !bytes.Equal(now, before) {
			return true
		}
	}
	return false
}

// loader gathers the faults of one configuration.
type loader struct {
	path   string
	lines  map[string]int            // of each key that the file has
	env    map[string]string         // the variable of each key that the environment sets
	maps   map[string]map[string]any // the free-form maps of the file, spelled as there
	read   Contents
	faults []Fault
	more   int // faults beyond those
}

func newLoader(path string) *loader {
	return &loader{path: path, lines: map[string]int{}, env: map[string]string{}, maps: map[string]map[string]any{}, read: Contents{}}
}

// decode lays the file and the environment over cfg. It reports whether text is YAML that can be read at all.
func (l *loader) decode(text []byte, cfg *Config) bool {
	root := l.parse(text)
	if root == nil {
		return false
	}
	m := map[string]any{}
	if err := root.Decode(&m); err != nil {
		l.yamlFaults(err)
		return false
	}
	// Before viper's own decoding, whose UnmarshalExact does not see unknown keys that hold nothing or an empty map.
	l.walk(root, reflect.TypeFor[Config](), "")
	// viper turns keys of metadata into lower case, mixes it with the default, and looks up each value of it by its path, for
	// which a map that is nested 5,000 deep takes minutes.
	if bot, ok := m["bot"].(map[string]any); ok {
		delete(bot, "metadata")
	}
	v := viper.New()
	_ = v.MergeConfigMap(m) // fails never
	l.bindEnv(v)
	inheritDefaults(v)
	l.decodeFaults(v.Unmarshal(cfg, func(c *mapstructure.DecoderConfig) {
		c.WeaklyTypedInput = false // or 5 would be a duration, of 5 ns, and true a channel's name
		c.DecodeHook = decodeScalar
	}))
	if metadata, ok := l.maps["bot.metadata"]; ok {
		cfg.Bot.Metadata = metadata
	}
	return true
}

// parse returns the map that text holds, nil if it is no YAML, or more than a configuration may be.
func (l *loader) parse(text []byte) *yaml.Node {
	if f := badByte(text); f != nil {
		l.add(*f)
		return nil
	}
	var doc, more yaml.Node
	docs := yaml.NewDecoder(bytes.NewReader(text))
	if err := docs.Decode(&doc); err != nil && err != io.EOF {
		l.yamlFaults(err)
		return nil
	}
	switch err := docs.Decode(&more); {
	case err == io.EOF:
	case err != nil:
		l.yamlFaults(err)
		return nil
	default:
		l.add(Fault{Line: more.Line, Message: "want one document: what follows --- would go unnoticed"})
		return nil
	}
	if len(doc.Content) == 0 {
		return &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
	}
	root := doc.Content[0]
	if root.Kind != yaml.MappingNode {
		l.fault("", "want a map of keys")
		return nil
	}
	if f := outOfBounds(root); f != nil {
		l.add(*f)
		return nil
	}
	return root
}

// walk notes the line of every key below node and complains of what has no place in typ.
func (l *loader) walk(node *yaml.Node, typ reflect.Type, path string) {
	for node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	if node.Tag == "!!null" {
		return // as if the key were not there
	}
	switch kindOf(typ) {
	case reflect.Struct:
		if node.Kind != yaml.MappingNode {
			l.fault(path, "want a map of %s", strings.Join(KeysOf(typ), ", "))
			return
		}
		for i := 0; i+1 < len(node.Content); i += 2 {
			l.walkKey(node.Content[i], node.Content[i+1], typ, path)
		}
	case reflect.Slice:
		if node.Kind != yaml.SequenceNode {
			l.fault(path, "want a list")
			return
		}
		for i, item := range node.Content {
			child := fmt.Sprintf("%s[%d]", path, i)
			l.lines[child] = item.Line
			l.walk(item, typ.Elem(), child)
		}
	case reflect.Map:
		var m map[string]any
		if err := node.Decode(&m); err != nil {
			l.fault(path, "want a map whose keys are strings")
		}
		l.maps[path] = m
	default:
		if node.Kind != yaml.ScalarNode {
			l.fault(path, "want a single value")
		}
	}
}

func (l *loader) walkKey(key, value *yaml.Node, typ reflect.Type, path string) {
	if key.Tag == "!!merge" {
		l.walk(value, typ, path)
		return
	}
	child := join(path, key.Value)
	l.lines[child] = key.Line
	field, ok := fieldOf(typ, key.Value)
	if !ok {
		l.fault(child, "unknown key (known here: %s)", strings.Join(KeysOf(typ), ", "))
		return
	}
	l.walk(value, field.Type, child)
}

// inheritDefaults writes into every channel what it does not say itself: what the environment or the file says for all of
// them, or what holds without a word.
func inheritDefaults(v *viper.Viper) {
	standard := Default().Defaults
	v.SetDefault("defaults.audio", standard.Audio)
	v.SetDefault("defaults.video", standard.Video)
	v.SetDefault("defaults.reconnect_window", standard.ReconnectWindow.String())
	inherited := map[string]any{}
	for _, key := range KeysOf(reflect.TypeFor[ChannelOptions]()) {
		if value := v.Get("defaults." + key); value != nil {
			inherited[key] = value
		}
	}
	channels, _ := v.Get("channels").([]any)
	for _, channel := range channels {
		m, ok := channel.(map[string]any)
		if !ok {
			continue
		}
		for key, value := range inherited {
			if m[key] == nil {
				m[key] = value
			}
		}
	}
}

// decodeScalar reads the values that are written as text: durations, levels, and what the environment holds.
func decodeScalar(from, to reflect.Type, data any) (any, error) {
	switch {
	case to == reflect.TypeFor[time.Duration]():
		if s, ok := data.(string); ok {
			if d, err := parseDuration(s); err == nil {
				return d, nil
			}
		}
		return nil, errors.New("want a duration with its unit, such as 500ms, 10s, 2m, 12h or 30d")
	case to == reflect.TypeFor[slog.Level]():
		var level slog.Level
		if s, ok := data.(string); ok && slices.Contains([]string{"debug", "info", "warn", "error"}, s) {
			return level, level.UnmarshalText([]byte(s))
		}
		return nil, errors.New("want debug, info, warn or error")
	case to == reflect.TypeFor[Size]():
		switch s := data.(type) {
		case string:
			return parseSize(s)
		case int:
			return parseSize(strconv.Itoa(s))
		}
		return nil, errSize
	case to == reflect.TypeFor[time.Time]():
		switch t := data.(type) {
		case time.Time: // YAML knows them too
			return t, nil
		case string:
			if t, err := time.Parse(time.RFC3339, t); err == nil {
				return t, nil
			}
		}
		return nil, errors.New("want a time such as 2026-01-31T09:00:00Z")
	case from.Kind() == reflect.String && to.Kind() == reflect.Bool:
		if b, err := strconv.ParseBool(data.(string)); err == nil {
			return b, nil
		}
		return nil, errors.New("want true or false")
	case from.Kind() == reflect.String && to.Kind() == reflect.Int:
		if n, err := strconv.Atoi(data.(string)); err == nil {
			return n, nil
		}
		return nil, errors.New("want a whole number")
	}
	return data, nil
}

// parseDuration reads durations as Go has them and, for what is longer than hours, as Prometheus does.
func parseDuration(text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if err != nil {
		var long model.Duration
		if long, err = model.ParseDuration(text); err == nil {
			d = time.Duration(long)
		}
	}
	return d, err
}

// decodeFaults turns what mapstructure found into faults, without the values: one may be a credential.
func (l *loader) decodeFaults(err error) {
	switch e := err.(type) {
	case *mapstructure.DecodeError:
		var kind *mapstructure.UnconvertibleTypeError
		if errors.As(e.Unwrap(), &kind) {
			l.fault(e.Name(), "want %s, got %s", kindName(kind.Expected.Kind()), kindName(reflect.TypeOf(kind.Value).Kind()))
		} else {
			l.fault(e.Name(), "%v", e.Unwrap())
		}
	case interface{ Unwrap() []error }:
		for _, err := range e.Unwrap() {
			l.decodeFaults(err)
		}
	case interface{ Unwrap() error }:
		l.decodeFaults(e.Unwrap())
	}
}

func kindName(kind reflect.Kind) string {
	switch kind {
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "true or false"
	default:
		return "a number"
	}
}

// kindOf is the kind of value that a key of the configuration holds. A time is a single value.
func kindOf(typ reflect.Type) reflect.Kind {
	if typ == reflect.TypeFor[time.Time]() {
		return reflect.String
	}
	return typ.Kind()
}

func fieldOf(typ reflect.Type, key string) (reflect.StructField, bool) {
	for _, f := range reflect.VisibleFields(typ) {
		if f.Tag.Get("mapstructure") == key {
			return f, true
		}
	}
	return reflect.StructField{}, false
}

// KeysOf lists the keys that a section knows, those of the sections within it that have no key of their own included.
func KeysOf(typ reflect.Type) []string {
	var keys []string
	for _, f := range reflect.VisibleFields(typ) {
		if !f.Anonymous {
			keys = append(keys, f.Tag.Get("mapstructure"))
		}
	}
	return keys
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}
