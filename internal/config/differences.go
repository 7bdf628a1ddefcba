package config

import "reflect"

// Differences lists the keys in which two configurations differ.
func Differences(one, other Config) []string {
	return sectionDifferences(reflect.ValueOf(one), reflect.ValueOf(other), "")
}

// sectionDifferences lists those of two sections at path.
func sectionDifferences(one, other reflect.Value, path string) []string {
	var keys []string
	for _, key := range KeysOf(one.Type()) {
		field, _ := fieldOf(one.Type(), key)
		a, b := one.FieldByIndex(field.Index), other.FieldByIndex(field.Index)
		switch {
		case kindOf(field.Type) == reflect.Struct:
			keys = append(keys, sectionDifferences(a, b, join(path, key))...)
		case !reflect.DeepEqual(a.Interface(), b.Interface()):
			keys = append(keys, join(path, key))
		}
	}
	return keys
}
