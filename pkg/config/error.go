package config

import (
	"errors"
	"fmt"
	"strings"
)

// Error is one mistake in the configuration. It never holds a password.
type Error struct {
	Key     string // the key, such as "auth.users[1].username"; "" when it is the whole file
	Value   string // what was given; "" when the problem is not the value, or the value is secret
	Origin  Origin // where the value came from
	Line    int    // the line of the file, from 1; 0 when it is not known
	Problem string // continues the sentence that key and value begin: "has no unit"
	Err     error  // the cause, nil for most

	hint string
}

// Error is one sentence: the key, the value, what is wrong, and in brackets where the value came from.
func (e *Error) Error() string {
	if e.Key == "" && e.Origin.Kind == File {
		return fmt.Sprintf("configuration %s %s", e.place(), e.Problem)
	}
	var words []string
	switch {
	case e.Key != "" && e.Value != "":
		words = append(words, e.Key+":")
	case e.Key != "":
		words = append(words, e.Key)
	}
	if e.Value != "" {
		words = append(words, fmt.Sprintf("%.80q", e.Value))
	}
	words = append(words, e.Problem)
	if e.Origin.Kind != Default {
		words = append(words, "("+e.place()+")")
	}
	return strings.Join(words, " ")
}

func (e *Error) place() string {
	if e.Line > 0 {
		return fmt.Sprintf("%s, line %d", e.Origin, e.Line)
	}
	return e.Origin.String()
}

// Hint says how to correct it.
func (e *Error) Hint() string { return e.hint }

// Unwrap returns the cause, if there is one.
func (e *Error) Unwrap() error { return e.Err }

// Errors holds everything that is wrong with a configuration, in the order in which Load found it, so that the operator
// can correct a file in one go. There is at least one. errors.As finds the first.
type Errors []*Error

// Error has a line for each.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, one := range e {
		lines[i] = one.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap returns each.
func (e Errors) Unwrap() []error {
	all := make([]error, len(e))
	for i, one := range e {
		all[i] = one
	}
	return all
}

// problem returns an Error without key, value and place.
func problem(hint, format string, args ...any) error {
	return &Error{Problem: fmt.Sprintf(format, args...), hint: hint}
}

// about returns a copy, with key and value, of an error that problem made.
func about(err error, key, value string) error {
	e, ok := errors.AsType[*Error](err)
	if !ok {
		return err
	}
	known := *e
	known.Key, known.Value = key, value
	return &known
}
