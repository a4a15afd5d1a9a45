// Command berth gets your server its port back: it shows which sockets are on
// a port, says why a bind is refused and when it will succeed, frees the port,
// and starts the server again. See the README and "berth --help".
package main

import (
	"context"
	"os"

	"berth/gatewaylaunch/bindnotify"
	"berth/ui/cli"
)

func main() {
	if status, ok := bindnotify.Shim(); ok {
		os.Exit(status)
	}
	os.Exit(cli.Main(context.Background(), os.Args[1:], cli.IO{
		In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Environ: os.Environ(),
	}))
}
