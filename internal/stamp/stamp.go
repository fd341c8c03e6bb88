// Package stamp writes times as the contract wants them: RFC 3339, UTC, always three fractional digits.
package stamp

import "time"

// Layout is how times are written for machines.
const Layout = "2006-01-02T15:04:05.000Z"

const quoted = `"` + Layout + `"`

// Time is a time in JSON. The zero time is null.
type Time time.Time

func (t Time) String() string {
	if time.Time(t).IsZero() {
		return ""
	}
	return time.Time(t).UTC().Format(Layout)
}

// MarshalJSON implements json.Marshaler.
func (t Time) MarshalJSON() ([]byte, error) {
	if time.Time(t).IsZero() {
		return []byte("null"), nil
	}
	return time.Time(t).UTC().AppendFormat(make([]byte, 0, len(quoted)), quoted), nil
}
