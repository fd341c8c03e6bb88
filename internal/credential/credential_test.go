package credential

import (
	"strings"
	"testing"
)

func TestCheckName(t *testing.T) {
	for _, tc := range []struct{ desc, name, reason string }{
		{"a plain name is fine", "alice", ""},
		{"a name in any script is fine", "Zoë.한글@example", ""},
		{"a name with a space or # inside is fine", "team a#1", ""},
		{"255 bytes are fine", strings.Repeat("a", 255), ""},
		{"an empty name is refused", "", "empty"},
		{"256 bytes are refused", strings.Repeat("a", 256), "longer than 255 bytes"},
		{"a colon is refused", "a:b", "colon"},
		{"a newline is refused", "a\nb", "line break"},
		{"a control character of Latin-1 is refused", "a\u0085b", "control character"},
		{"a comment is refused", "#a", "comment"},
		{"a leading space, which readers cut, is refused", " a", "space"},
		{"a trailing no-break space is refused", "a\u00a0", "space"},
		{"bytes that are no text are refused", "a\xff", "UTF-8"},
	} {
		t.Run(tc.desc, func(t *testing.T) { wantReason(t, CheckName(tc.name), tc.reason) })
	}
}

func TestCheckPassword(t *testing.T) {
	for _, tc := range []struct{ desc, password, reason string }{
		{"one byte is enough", "x", ""},
		{"72 bytes are fine", strings.Repeat("x", 72), ""},
		{"anything on one line is fine", " a:b\t#\x7f", ""},
		{"a line break is refused", "a\nb", "line break"},
		{"a carriage return is refused", "a\r", "line break"},
		{"an empty password is refused", "", "empty"},
		{"73 bytes are refused", strings.Repeat("x", 73), "72 bytes"},
		{"72 characters of more bytes are refused", strings.Repeat("é", 72), "72 bytes"},
		{"a NUL is refused", "a\x00b", "NUL"},
		{"what looks like a hash is a password like another", "$2y$10$", ""},
	} {
		t.Run(tc.desc, func(t *testing.T) { wantReason(t, CheckPassword(tc.password), tc.reason) })
	}
}

func TestCheckConfigured(t *testing.T) {
	body := strings.Repeat("a", 53)
	for _, tc := range []struct{ desc, password, reason string }{
		{"a plain password is fine", "secret$2", ""},
		{"72 bytes are fine", strings.Repeat("x", 72), ""},
		{"a whole hash is fine", "$2y$10$" + body, ""},
		{"an empty password is refused", "", "empty"},
		{"73 bytes are refused", strings.Repeat("x", 73), "72 bytes"},
		{"a hash that a template ate of is refused", "$2a$1short", "has 10 characters and not 60"},
		{"a hash with something behind it is refused", "$2a$10$" + body + "x", "has 61 characters and not 60"},
		{"a hash of a cost that bcrypt has not is refused", "$2b$03$" + body, "damaged"},
		{"a hash of a kind that bcrypt has not is refused", "$2x$10$" + body, "damaged"},
		{"the oldest kind of hash is refused", "$2$10$" + body, "has 59 characters"},
	} {
		t.Run(tc.desc, func(t *testing.T) { wantReason(t, CheckConfigured(tc.password), tc.reason) })
	}
}

func TestBcryptHashIsRecognized(t *testing.T) {
	whole := "$2y$04$" + strings.Repeat("a", 53)
	for _, tc := range []struct {
		desc, hash string
		want       bool
	}{
		{"of Apache", whole, true},
		{"of Go", strings.Replace(whole, "2y", "2a", 1), true},
		{"of OpenBSD", strings.Replace(whole, "2y", "2b", 1), true},
		{"with further fields", whole + ":Bob", true},
		{"with something before it", "x" + whole, false},
		{"cut short", whole[:59], false},
		{"of a cost that cannot be", strings.Replace(whole, "04", "03", 1), false},
		{"with a byte that no hash has", whole[:59] + "!", false},
		{"crypt_blowfish's old bug", strings.Replace(whole, "2y", "2x", 1), false},
		{"apr1", "$apr1$lZL6V/ci$eIMz/iKDkbtys/uU7LEK00", false},
		{"SHA", "{SHA}5siv5c0SHx681xU6GiSx9ZQryqs=", false},
		{"plain", "secret", false},
		{"empty", "", false},
	} {
		if got := IsHash(tc.hash); got != tc.want {
			t.Errorf("%s: got %v, want %v", tc.desc, got, tc.want)
		}
	}
}

func TestCost(t *testing.T) {
	for _, cost := range []string{"04", "10", "31"} {
		hash := "$2y$" + cost + "$" + strings.Repeat("a", 53)
		if got := Cost(hash); !IsHash(hash) || got != int(cost[0]-'0')*10+int(cost[1]-'0') {
			t.Errorf("%s: cost %d", hash, got)
		}
	}
}

func wantReason(t *testing.T, err error, reason string) {
	t.Helper()
	switch {
	case reason == "" && err != nil:
		t.Errorf("got %v, want no error", err)
	case reason != "" && (err == nil || !strings.Contains(err.Error(), reason)):
		t.Errorf("got %v, want an error with %q", err, reason)
	}
}
