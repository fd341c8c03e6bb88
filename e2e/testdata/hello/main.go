// Command hello is the one program in the images of the tests: it prints which image it is.
package main

import "fmt"

var name = "nobody" // set by the linker, so that no two images share a layer

func main() { fmt.Println("hello from " + name) }
