package main

import (
	"errors"
	"strconv"
	"strings"
)

// Size is a number of bytes, written with its unit: 500MB, 2GB, 1TB, in powers of 1000.
type Size int64

var sizeUnits = []struct {
	name  string
	bytes Size
}{{"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}}

var errSize = errors.New("want a size with its unit, such as 500MB or 2GB, or 0")

// parseSize reads what String writes.
func parseSize(text string) (Size, error) {
	if text == "0" {
		return 0, nil
	}
	for _, unit := range sizeUnits {
		if number, ok := strings.CutSuffix(text, unit.name); ok {
			n, err := strconv.ParseUint(number, 10, 20)
			if err != nil {
				return 0, errSize
			}
			return Size(n) * unit.bytes, nil
		}
	}
	return 0, errSize
}

// String writes s in the largest unit that leaves no remainder.
func (s Size) String() string {
	for _, unit := range sizeUnits {
		if s != 0 && s%unit.bytes == 0 {
			return strconv.FormatInt(int64(s/unit.bytes), 10) + unit.name
		}
	}
	return strconv.FormatInt(int64(s), 10)
}
