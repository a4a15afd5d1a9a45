//go:build amd64 || arm64

package bindnotify

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// What the probe exits with.
const (
	probeOwn   = 10 // it has the socket that it has made itself
	probeGiven = 11 // it has got another one in its place
)

// probe is the main function of the throw-away child. It makes a socket, binds
// it to the port of the loopback address and looks whether it is still its own.
func probe(args []string) int {
	if len(args) != 1 {
		return statusFailed
	}
	port, err := strconv.ParseUint(args[0], 10, 16)
	if err != nil {
		return statusFailed
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return statusFailed
	}
	var before, after unix.Stat_t
	if unix.Fstat(fd, &before) != nil {
		return statusFailed
	}
	if err := unix.Bind(fd, loopback(int(port))); err != nil {
		return statusFailed
	}
	switch {
	case unix.Fstat(fd, &after) != nil:
		return statusFailed
	case after.Ino == before.Ino:
		return probeOwn
	}
	return probeGiven
}

func loopback(port int) *unix.SockaddrInet4 {
	return &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}
}

// Supported tries the whole path with a throw-away child that binds a port of
// the loopback address which the system chooses. Nobody can connect to it. It
// takes some ten milliseconds.
func Supported(ctx context.Context) Support {
	const most = 10 * time.Second
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	kept, port, err := boundSocket()
	if err != nil {
		return Support{Err: &Error{Op: "bind a port of the loopback address", Err: err}}
	}
	sockets := &Sockets{kept: []*keptSocket{kept}}
	defer sockets.Close()

	var mu sync.Mutex
	var seen *Event
	cmd := exec.CommandContext(ctx, self())
	cmd.Args = []string{probeName, strconv.Itoa(port)}
	cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0")
	tree, err := Start(ctx, cmd, Config{Sockets: sockets, On: func(e Event) {
		mu.Lock()
		defer mu.Unlock()
		if e.Kind == KindBind {
			seen = &e
		}
	}})
	if err != nil {
		return Support{Err: err}
	}
	_ = cmd.Wait() // its status is looked at
	select {
	case <-tree.Done():
	case <-ctx.Done():
	}
	mu.Lock()
	defer mu.Unlock()
	s := Support{NoNewPrivs: tree.NoNewPrivs()}
	switch {
	case seen == nil:
		s.Err = &Error{Op: "watch the binds of a program", Err: errors.ErrUnsupported, Why: "the throw-away child's bind was not reported"}
		return s
	case seen.How == HowPassed:
		s.Watch = true
		s.Err = &Error{Op: "make a bind for a program", Err: errors.ErrUnsupported, Why: seen.Why}
		return s
	}
	s.Watch, s.Hold = true, true
	if s.HandOver = cmd.ProcessState.ExitCode() == probeGiven; !s.HandOver {
		s.Err = &Error{Op: "give a program another socket", Err: errors.ErrUnsupported, Why: "this kernel cannot replace another process's descriptor (Linux 5.9 and later can)"}
	}
	return s
}

// boundSocket makes a socket that is bound and does not listen.
func boundSocket() (*keptSocket, int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, 0, os.NewSyscallError("socket", err)
	}
	s, err := newSocket(fd)
	if err == nil {
		err = os.NewSyscallError("bind", unix.Bind(fd, loopback(0)))
	}
	if err != nil {
		unix.Close(fd)
		return nil, 0, err
	}
	local := s.local()
	return &keptSocket{socket: s, key: s.key(local)}, int(local.port), nil
}
