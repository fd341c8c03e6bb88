package config

import (
	"math"
	"strconv"
	"strings"
)

const sizeHint = "write bytes, or a number with a unit such as MB, GB, TB (powers of 1000) " +
	"or MiB, GiB, TiB (powers of 1024)"

// ParseSize reads a number of bytes: "0", "1048576", "500GiB", "1.5TB", "20 GB". KB, MB, GB, TB, PB and EB are powers
// of 1000, KiB to EiB powers of 1024. The B may be left out, and upper and lower case mean the same. The error is an
// *Error.
func ParseSize(s string) (int64, error) {
	n, err := parseSize(s)
	if err != nil {
		return 0, about(err, "", s)
	}
	return n, nil
}

func parseSize(s string) (int64, error) {
	unit := strings.TrimLeft(s, "0123456789.")
	number := s[:len(s)-len(unit)]
	if number == "" {
		return 0, problem(sizeHint, "is not a size")
	}
	factor, ok := sizeFactor(strings.TrimLeft(unit, " "))
	if !ok {
		return 0, problem(sizeHint, "has the unknown unit %.20q", unit)
	}
	if strings.Contains(number, ".") {
		return scaleFraction(number, factor)
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n > math.MaxInt64/factor {
		return 0, tooLarge()
	}
	return n * factor, nil
}

// sizeFactor returns how many bytes a unit is.
func sizeFactor(unit string) (int64, bool) {
	prefix, _ := strings.CutSuffix(strings.ToLower(unit), "b")
	prefix, binary := strings.CutSuffix(prefix, "i")
	power := strings.Index("kmgtpe", prefix) + 1
	switch {
	case prefix == "" && !binary:
		return 1, true
	case len(prefix) != 1 || power == 0:
		return 0, false
	}
	base, factor := int64(1000), int64(1)
	if binary {
		base = 1024
	}
	for range power {
		factor *= base
	}
	return factor, true
}

// scaleFraction rounds down to whole bytes.
func scaleFraction(number string, factor int64) (int64, error) {
	f, err := strconv.ParseFloat(number, 64)
	if err != nil {
		return 0, problem(sizeHint, "is not a size")
	}
	if f *= float64(factor); f >= math.MaxInt64 {
		return 0, tooLarge()
	}
	return int64(f), nil
}

// FormatSize is the reverse of ParseSize. It takes the largest unit in which the size is a whole number, and units of
// 1024 before those of 1000: "4MiB", "1500MB", "1001".
func FormatSize(n int64) string {
	for _, units := range [][]string{{"EiB", "PiB", "TiB", "GiB", "MiB", "KiB"}, {"EB", "PB", "TB", "GB", "MB", "KB"}} {
		for _, unit := range units {
			if factor, _ := sizeFactor(unit); n != 0 && n%factor == 0 {
				return strconv.FormatInt(n/factor, 10) + unit
			}
		}
	}
	return strconv.FormatInt(n, 10)
}

func tooLarge() error { return problem("0 means no limit", "is more than 8 EiB") }
