// Package bench measures dcs as its users run it: whole processes of the built binary. `make bench` runs
// it; docs/performance.md has the figures and what they mean. Machines are noisy, so every figure is the
// median of several rounds, and none is asserted.
package bench
