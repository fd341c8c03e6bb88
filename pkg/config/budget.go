package config

import (
	"errors"
	"strconv"
	"strings"

	"github.com/jc-lab/docker-cache-server/internal/rule"
)

// auto is the text of a MinFree that is nil.
const auto = "auto"

// defaultFree is the MinFree that auto stands for, in percent.
const defaultFree = 5

// Budget returns the budget in the form that decides.
func (c *Cache) Budget() rule.Budget {
	b := rule.Budget{MaxSize: rule.Size(c.MaxSize)}
	switch {
	case c.MinFree != nil:
		b.MinFree = rule.Size(*c.MinFree)
	case c.TTL != 0:
		b.MinFree.Percent = defaultFree
	}
	return b
}

// String returns the size as the file spells it: 500GiB, 80%.
func (s Size) String() string {
	if s.Percent != 0 {
		return strconv.FormatFloat(s.Percent, 'f', -1, 64) + "%"
	}
	return FormatSize(s.Bytes)
}

// parseShare reads a size, or a share of the file system: 80%.
func parseShare(s string) (Size, error) {
	number, isShare := strings.CutSuffix(s, "%")
	if !isShare {
		n, err := parseSize(s)
		if e, ok := errors.AsType[*Error](err); ok && e.hint == sizeHint {
			e.hint += "; or a share of the file system such as 80%"
		}
		return Size{Bytes: n}, err
	}
	percent, err := strconv.ParseFloat(number, 64)
	if err != nil || strings.Trim(number, "0123456789.") != "" {
		return Size{}, problem("write it like 80%", "is not a share of the file system")
	}
	if percent > 100 {
		return Size{}, problem("write it like 80%", "is more than the whole file system")
	}
	return Size{Percent: percent}, nil
}

// check adds the mistakes in the size of a key. A program may have set both of its fields, or a negative one.
func (s Size) check(found *Errors, key string) {
	found.unless(s.Bytes >= 0 && s.Percent >= 0, key, s.String(), "0 is none", "is negative")
	found.unless(s.Percent <= 100, key, s.String(), "write it like 80%", "is more than the whole file system")
	found.unless(s.Bytes == 0 || s.Percent == 0, key, s.String(), "set one of the two", "has bytes beside it")
}
