package process

import (
	"fmt"
	"strings"
	"time"
)

// tick is the unit of /proc/PID/stat: 1/USER_HZ, which is 100 on every Linux that Go runs on.
const tick = 10 * time.Millisecond

// parseStat returns the user and system time of a line of /proc/PID/stat. The second field is the name of the program
// in parentheses, and may hold anything, so the fields are counted from the last of them.
func parseStat(stat string) (time.Duration, error) {
	_, rest, ok := cutLast(stat, ")")
	fields := strings.Fields(rest)
	if !ok || len(fields) < 13 {
		return 0, fmt.Errorf("no line of /proc/PID/stat: %q", stat)
	}
	var user, system int64
	if _, err := fmt.Sscan(fields[11]+" "+fields[12], &user, &system); err != nil {
		return 0, fmt.Errorf("times in /proc/PID/stat: %w", err)
	}
	return time.Duration(user+system) * tick, nil
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// parseStatus returns a field of /proc/PID/status that is a size, in bytes.
func parseStatus(status, field string) (int64, error) {
	for line := range strings.Lines(status) {
		value, ok := strings.CutPrefix(line, field+":")
		if !ok {
			continue
		}
		var kib int64
		_, err := fmt.Sscanf(strings.TrimSpace(value), "%d kB", &kib)
		return kib << 10, err
	}
	return 0, fmt.Errorf("no %s in /proc/PID/status", field)
}
