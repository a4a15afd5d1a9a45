//go:build !linux || !(amd64 || arm64)

package bindnotify

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"runtime"

	"berth/netstate"
)

func unsupported(op string) error {
	return &Error{Op: op, Err: errors.ErrUnsupported, Why: fmt.Sprintf("%s on %s has no call by which one process could answer another's bind", runtime.GOOS, runtime.GOARCH)}
}

// Shim has nothing to do on this system.
func Shim() (status int, ok bool) { return 0, false }

// Supported says that nothing of this works on this system.
func Supported(context.Context) Support {
	return Support{Err: unsupported("watch the binds of a program")}
}

// Tree does not exist on this system.
type Tree struct{}

// Start fails on this system.
func Start(context.Context, *exec.Cmd, Config) (*Tree, error) {
	return nil, unsupported("watch the binds of a program")
}

// Done is closed.
func (*Tree) Done() <-chan struct{} {
	done := make(chan struct{})
	close(done)
	return done
}

// Abandon does nothing.
func (*Tree) Abandon() {}

// NoNewPrivs is false.
func (*Tree) NoNewPrivs() bool { return false }

// Sockets is always empty on this system.
type Sockets struct{}

// Adopt fails on this system.
func (*Sockets) Adopt(netstate.Holder, *netstate.Socket) error {
	return unsupported("take over a listening socket")
}

// Listen does nothing.
func (*Sockets) Listen() error { return nil }

// Len is 0.
func (*Sockets) Len() int { return 0 }

// Left is 0.
func (*Sockets) Left() int { return 0 }

// Succeed fails on this system.
func (*Sockets) Succeed() error { return unsupported("make a second socket") }

// Succeeded is false.
func (*Sockets) Succeeded() bool { return false }

// Steer does nothing.
func (*Sockets) Steer() error { return nil }

// Drain does nothing.
func (*Sockets) Drain(context.Context, []netstate.Holder, bool) error { return nil }

// Withdraw does nothing.
func (*Sockets) Withdraw() {}

// Leave does nothing.
func (*Sockets) Leave() {}

// Pause does nothing.
func (*Sockets) Pause(context.Context, []netstate.Holder, bool) (resume func()) { return func() {} }

// Close does nothing.
func (*Sockets) Close() error { return nil }
