// Package torture tries to break the promises of dcs. It has tests only: they run the real program, with
// real files, sockets, processes and signals, and a seed that they print.
//
// `go test ./torture` takes a few seconds; `make torture T=10m` as long as one likes, and runs the model
// test of internal/serve beside it.
package torture
