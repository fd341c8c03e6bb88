//go:build race

package indextest

// slow says that the race detector makes an engine written in Go ten times slower.
const slow = true
