// The two ends of the benchmark in one program: `load stub` answers like an engine, `load run` asks like clients.
//
// Both speak the little of HTTP/1.1 they need on bare connections: a request costs them some microseconds, less than
// any router in between, so that one core is enough for both of them.
package main

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
)

func main() {
	debug.SetGCPercent(400) // little garbage, and memory is not what is measured here
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "stub":
			exit(stub(os.Args[2:]))
		case "run":
			exit(run(os.Args[2:]))
		case "version":
			fmt.Println(runtime.Version())
			return
		}
	}
	fmt.Fprintln(os.Stderr, "usage: load stub|run [flags], -h lists them")
	os.Exit(2)
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}
