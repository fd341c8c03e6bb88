// Package userstest has logins, and what becomes of them, for the tests of dcs and for those that ask a stock registry.
package userstest

import (
	_ "embed"
	"encoding/json"
)

// Logins is a users file, users to add to it, and logins.
type Logins struct {
	File   string // the text of an htpasswd file, as another program leaves it
	Added  []User // by dcs
	Logins []Login
}

// User is a name with its plain password.
type User struct{ Name, Password string }

// Login is an attempt to log in.
type Login struct {
	User
	Desc string
	In   bool // dcs and distribution accept it
}

//go:embed logins.json
var data []byte

// Read returns the logins.
func Read() (l Logins, err error) {
	err = json.Unmarshal(data, &l)
	return l, err
}
