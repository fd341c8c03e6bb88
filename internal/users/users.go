// Package users keeps the htpasswd file and answers who may log in. [File] edits, [Verifier] answers.
//
// What is always true:
//
//   - An edit changes the lines of one user and nothing else. Comments, blank lines, order, line endings and hashes
//     of other kinds stay as another tool wrote them.
//   - Edits exclude each other by a lock file beside the file, and replace the file as a whole. A reader sees the old
//     users or the new ones, and no edit loses another's.
//   - The file means what it means to distribution: the last line of a name counts, and only bcrypt hashes verify.
//   - A user who was removed from the file, or has another password now, is refused at the next request. Every answer
//     looks at the file first, and a remembered answer is bound to the stored hash.
//   - Every refusal is as much work as one bcrypt run at the highest cost in use, up to 16, so that its duration does
//     not say whether the user exists.
//
// The nouns: a *user* is a name with a password; a *client* is the address, or the network, that a request comes from;
// a *hash* is what bcrypt made of a password, and its *cost* says how many rounds a comparison takes: 2^cost.
package users

import "errors"

// ErrNotFound says that the file holds no user of that name.
var ErrNotFound = errors.New("no such user")
