package config

import (
	"cmp"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/spf13/viper"
)

const envPrefix = "RECORDER_"

// EnvName returns the variable of a key that holds one value.
func EnvName(key string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
}

// bindEnv tells viper of the variable of every key that holds one value. AutomaticEnv would not do: Unmarshal asks it
// only for the keys that the file has anyway.
func (l *loader) bindEnv(v *viper.Viper) {
	singles, _ := KeyPaths(reflect.TypeFor[Config](), "")
	for _, key := range singles {
		name := EnvName(key)
		if os.Getenv(name) != "" {
			l.env[key] = name
		}
		_ = v.BindEnv(key, name) // fails only without a key
	}
}

// IgnoredVariables says of the variables that look like ours and set nothing why that is: a misspelt one would go unnoticed.
func IgnoredVariables() []string {
	const none, list = "no key has that variable", "%s holds a list or a map, which only the file can say"
	why := map[string]string{"RECORDER_E2E": "", "RECORDER_SDK_UMD": ""} // the test suite's, which runs this command too
	singles, others := KeyPaths(reflect.TypeFor[Config](), "")
	for _, key := range others {
		why[EnvName(key)] = fmt.Sprintf(list, key)
	}
	for _, key := range singles {
		why[EnvName(key)] = ""
	}
	var ignored []string
	for _, variable := range os.Environ() {
		name, _, _ := strings.Cut(variable, "=")
		if reason, known := why[name]; strings.HasPrefix(name, envPrefix) && (!known || reason != "") {
			ignored = append(ignored, fmt.Sprintf("%s is ignored: %s", name, cmp.Or(reason, none)))
		}
	}
	slices.Sort(ignored)
	return ignored
}

// KeyPaths returns the path of every key that holds one value, and of every other that no section is.
func KeyPaths(typ reflect.Type, path string) (singles, others []string) {
	for _, key := range KeysOf(typ) {
		field, _ := fieldOf(typ, key)
		switch kindOf(field.Type) {
		case reflect.Struct:
			s, o := KeyPaths(field.Type, join(path, key))
			singles, others = append(singles, s...), append(others, o...)
		case reflect.Slice, reflect.Map:
			others = append(others, join(path, key))
		default:
			singles = append(singles, join(path, key))
		}
	}
	return singles, others
}
