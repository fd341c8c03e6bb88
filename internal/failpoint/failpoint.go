//go:build !failpoints

// Package failpoint lets a test kill the process between any two steps that change the disk.
//
// In a build with the tag failpoints the process kills itself at the step whose number is in the
// environment, DCS_FAILPOINT. In any other build Step is nothing.
package failpoint

// Step stands before each change of the tree and before each commit of the index.
func Step() {}
