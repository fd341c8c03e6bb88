// Package users keeps the htpasswd file and answers who may log in.
//
// What is always true:
//
//   - A file that somebody else wrote comes out of an edit as it went in, except for the one user that the
//     edit was about: comments, blank lines, order, line endings and foreign hashes stay.
//   - Edits exclude each other (a lock file beside the file) and replace the file as a whole, so that a reader
//     sees the old or the new users and no edit loses another's.
//   - The file means what it means to distribution: the last line of a name counts, and only bcrypt verifies.
//   - A user who is not in the file, or has another password now, is out with the next question: every answer
//     looks at the file first, and what is remembered to spare bcrypt is bound to the stored hash.
//   - A refusal costs one bcrypt run, whoever was asked about.
//
// [File] edits, [Verifier] answers.
package users

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// ErrNotFound says that the file holds no user of that name.
var ErrNotFound = errors.New("no such user")

const (
	maxName     = 255 // bytes; what Apache's htpasswd accepts
	maxPassword = 72  // bytes; bcrypt ignores the rest
)

// CheckName returns the reason why name cannot stand in an htpasswd file, or nil.
func CheckName(name string) error {
	switch {
	case name == "":
		return errors.New("user name is empty")
	case len(name) > maxName:
		return fmt.Errorf("user name is longer than %d bytes", maxName)
	case !utf8.ValidString(name):
		return errors.New("user name is not UTF-8")
	case strings.ContainsFunc(name, unicode.IsControl):
		return errors.New("user name contains a line break or another control character")
	case strings.Contains(name, ":"):
		return errors.New("user name contains a colon, which ends it in the file and on the wire")
	case name[0] == '#':
		return errors.New("user name begins with #, which marks a comment")
	case strings.TrimSpace(name) != name:
		return errors.New("user name begins or ends with a space")
	}
	return nil
}

// CheckPassword returns the reason why bcrypt cannot tell password from others, or nil.
func CheckPassword(password string) error {
	switch {
	case password == "":
		return errors.New("password is empty")
	case len(password) > maxPassword:
		return fmt.Errorf("password is longer than %d bytes, and bcrypt ignores the rest", maxPassword)
	case strings.Contains(password, "\x00"):
		return errors.New("password contains a NUL byte")
	case strings.ContainsAny(password, "\r\n"):
		return errors.New("password contains a line break, which htpasswd cannot ask for")
	}
	return nil
}
