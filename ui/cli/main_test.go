package cli

import (
	"context"
	"fmt"
	"os"
	"testing"

	"berth/gatewaylaunch/bindnotify"
	"berth/netstate/lab"
)

// The test binary can play other programs, so that processes can hold, serve
// and be signalled without anything being installed. actEnv names the part.
const actEnv = "BERTH_CLI_ACT"

var acts = map[string]func(args []string){
	// berth is the program itself, with what main.go gives it.
	"berth": func(args []string) {
		environ := os.Environ()
		os.Exit(Main(context.Background(), args, IO{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Environ: environ}))
	},
}

func TestMain(m *testing.M) {
	if status, ok := bindnotify.Shim(); ok {
		os.Exit(status)
	}
	if name := os.Getenv(actEnv); name != "" {
		act, ok := acts[name]
		if !ok {
			fmt.Fprintln(os.Stderr, "no such act:", name)
			os.Exit(99)
		}
		act(os.Args[1:])
		os.Exit(0)
	}
	// The race detector makes every program sleep a second at its end.
	os.Setenv("GORACE", "atexit_sleep_ms=0")
	lab.Main(m)
}
