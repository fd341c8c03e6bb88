// Package stamp writes times for machines. They all have one form, so that programs can compare them as text: RFC 3339,
// UTC, always three fractional digits.
package stamp

import "time"

// Layout is the form of every time that dcs writes for machines, as package time reads it.
const Layout = "2006-01-02T15:04:05.000Z"

const quoted = `"` + Layout + `"`

// Time is a time in JSON, to the millisecond. The zero time is null: never, or not known.
type Time time.Time

// String returns the time as in JSON, without quotes. The zero time is empty.
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
