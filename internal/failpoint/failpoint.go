//go:build !failpoints

// Package failpoint lets a test kill the process between any two steps that change the disk.
//
// What is always true: every change of the tree and every commit of the index has a Step before it, so that a test
// which kills the process at each step in turn sees every state that a crash can leave. In a build with the tag
// failpoints the process kills itself at the step whose number, from 1, is in the variable DCS_FAILPOINT. In any other
// build Step does nothing.
package failpoint

// Step does nothing. Each change of the tree and each commit of the index calls it first.
func Step() {}
