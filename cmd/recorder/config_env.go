package main

import (
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/spf13/viper"
)

const envPrefix = "RECORDER_"

// envName returns the variable of a key that holds one value.
func envName(key string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
}

// bindEnv tells viper of the variable of every key that holds one value. AutomaticEnv would not do: Unmarshal asks it
// only for the keys that the file has anyway.
func (l *loader) bindEnv(v *viper.Viper) {
	for _, key := range scalarKeys(reflect.TypeFor[Config](), "") {
		name := envName(key)
		if os.Getenv(name) != "" {
			l.env[key] = name
		}
		_ = v.BindEnv(key, name) // fails only without a key
	}
}

// unknownVariables lists the variables that look like ours and are no key's: a misspelt one would go unnoticed, as would one
// for a list.
func unknownVariables() []string {
	known := map[string]bool{"RECORDER_E2E": true, "RECORDER_SDK_UMD": true} // the test suite's, which runs this command too
	for _, key := range scalarKeys(reflect.TypeFor[Config](), "") {
		known[envName(key)] = true
	}
	var names []string
	for _, variable := range os.Environ() {
		name, _, _ := strings.Cut(variable, "=")
		if strings.HasPrefix(name, envPrefix) && !known[name] {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// scalarKeys returns the path of every key that holds one value.
func scalarKeys(typ reflect.Type, path string) []string {
	var keys []string
	for _, key := range keysOf(typ) {
		field, _ := fieldOf(typ, key)
		switch kindOf(field.Type) {
		case reflect.Struct:
			keys = append(keys, scalarKeys(field.Type, join(path, key))...)
		case reflect.Slice, reflect.Map:
		default:
			keys = append(keys, join(path, key))
		}
	}
	return keys
}
