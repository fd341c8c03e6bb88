// Package credential says what the name and the password of a user may be. It is pure.
//
// What is always true of a user that it accepts:
//
//   - The name is the same in the configuration, in an htpasswd file and in Basic authentication.
//   - Every byte of the password counts. bcrypt ignores what follows the 72nd byte, and some implementations what
//     follows a NUL.
//   - A password that looks like a bcrypt hash is a whole one. Taken as plain text, a damaged hash would refuse the
//     user, and let in anyone who has read the configuration.
//
// An error continues the sentence that its caller begins, such as "user name contains a colon", and never holds a
// password. Configuration, htpasswd file and command line all use these checks.
package credential

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	maxName     = 255 // bytes; Apache's htpasswd accepts no longer ones
	maxPassword = 72  // bytes; bcrypt reads no more
	hashLength  = 60  // bytes of every bcrypt hash
)

// CheckName returns why no user can have this name, or nil.
func CheckName(name string) error {
	switch {
	case name == "":
		return errors.New("is empty")
	case len(name) > maxName:
		return fmt.Errorf("is longer than %d bytes", maxName)
	case !utf8.ValidString(name):
		return errors.New("is not UTF-8")
	case strings.ContainsFunc(name, unicode.IsControl):
		return errors.New("contains a line break or another control character")
	case strings.Contains(name, ":"):
		return errors.New("contains a colon")
	case name[0] == '#':
		return errors.New("begins with #, which marks a comment")
	case strings.TrimSpace(name) != name:
		return errors.New("begins or ends with a space")
	}
	return nil
}

// CheckPassword returns why an htpasswd file cannot hold a hash of this password, or nil.
func CheckPassword(password string) error {
	switch {
	case strings.Contains(password, "\x00"):
		return errors.New("contains a NUL byte")
	case strings.ContainsAny(password, "\r\n"):
		return errors.New("contains a line break, which no prompt can read")
	}
	return checkLength(password)
}

// CheckConfigured returns why the configuration cannot give this password, plain or as a bcrypt hash, or nil.
func CheckConfigured(password string) error {
	switch {
	case !looksHashed.MatchString(password):
		return checkLength(password)
	case len(password) != hashLength:
		return fmt.Errorf("looks like a bcrypt hash, but has %d characters and not %d", len(password), hashLength)
	case !IsHash(password):
		return errors.New("looks like a bcrypt hash, but is damaged")
	}
	return nil
}

func checkLength(password string) error {
	switch {
	case password == "":
		return errors.New("is empty")
	case len(password) > maxPassword:
		return fmt.Errorf("is longer than %d bytes, and bcrypt ignores the rest", maxPassword)
	}
	return nil
}

var (
	// looksHashed tells a hash, whole or damaged, from a plain password.
	looksHashed = regexp.MustCompile(`^\$2([aby]\$|x?\$[0-9]{2}\$)`)

	// hash matches what begins with a whole bcrypt hash.
	hash = regexp.MustCompile(`^\$2[aby]\$(0[4-9]|[12][0-9]|3[01])\$[./A-Za-z0-9]{53}`)
)

// IsHash says whether a text begins with a whole bcrypt hash. Distribution ignores what follows it, and Apache what
// follows a colon.
func IsHash(text string) bool { return hash.MatchString(text) }

// Cost returns the cost of a hash for which IsHash holds, 4 to 31. A comparison with it takes 2^cost rounds.
func Cost(hash string) int { return int(hash[4]-'0')*10 + int(hash[5]-'0') }
