//go:build darwin || freebsd

package netstate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// bsdBackend reads the table that the system's own tool prints. The tools are
// part of the base system, see everybody's sockets without root and, unlike
// lsof, list TIME-WAIT.
type bsdBackend struct {
	argv    []string
	parse   func(text []byte, dst []Socket) ([]Socket, int)
	skipped int // lines of the last table that were not understood
}

func openBackend(scope Scope) (backend, error) {
	if scope.Protocol == UDP {
		return gopsutilBackend{protocol: UDP, capabilities: udpCaps()}, nil
	}
	b := &bsdBackend{argv: []string{"/usr/sbin/netstat", "-anvW", "-p", "tcp"}, parse: parseDarwinNetstat}
	if runtime.GOOS == "freebsd" {
		b.argv, b.parse = []string{"/usr/bin/sockstat", "-46sw", "-P", "tcp"}, parseSockstat
	}
	if _, err := os.Stat(b.argv[0]); err != nil {
		return nil, &OpError{Op: "find the system's tool for its socket table", Err: err}
	}
	return b, nil
}

// udpCaps: gopsutil runs lsof on macOS, which shows only the sockets of
// processes that the user may look into.
func udpCaps() Caps {
	c := Caps{Source: "gopsutil", AllHolders: os.Geteuid() == 0}
	if !c.AllHolders {
		c.Notes = append(c.Notes, "other users' UDP sockets may be hidden: run as root to see them")
	}
	return c
}

func (b *bsdBackend) read(ctx context.Context, _ uint16, dst []Socket) ([]Socket, error) {
	cmd := exec.CommandContext(ctx, b.argv[0], b.argv[1:]...)
	cmd.Env = []string{"LC_ALL=C", "PATH=/usr/bin:/bin:/usr/sbin:/sbin"}
	out, err := cmd.Output()
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = fmt.Errorf("%w: %s", err, bytes.TrimSpace(exit.Stderr))
		}
		return nil, &OpError{Op: "read the socket table with " + strings.Join(b.argv, " "), Err: err}
	}
	dst, b.skipped = b.parse(out, dst)
	return dst, nil
}

func (b *bsdBackend) owners(ctx context.Context, sockets []Socket) (*Owners, error) {
	return ownersByPID(ctx, sockets)
}

// flags leaves the options unknown. Only the new socket's options count for a
// bind on these systems, so those of the old one would explain nothing.
func (b *bsdBackend) flags(BindSpec, []Socket, *Owners) {}

func (b *bsdBackend) close() error { return nil }

func (b *bsdBackend) caps() Caps {
	c := Caps{Source: "netstat", Bound: true, AllHolders: true}
	switch runtime.GOOS {
	case "darwin":
		c.Notes = append(c.Notes,
			"no countdown here: macOS keeps TIME-WAIT for 30 s (twice net.inet.tcp.msl) and does not tell how much of it is left",
			"macOS names one process for each socket, the last that used it; others that share it are not listed")
	case "freebsd":
		c.Source = "sockstat"
		c.Notes = append(c.Notes, "no countdown here: FreeBSD keeps TIME-WAIT for 60 s (twice net.inet.tcp.msl) and does not tell how much of it is left")
		if see, err := unix.SysctlUint32("security.bsd.see_other_uids"); err == nil && see == 0 && os.Geteuid() != 0 {
			c.AllHolders = false
			c.Notes = append(c.Notes, "other users' sockets are hidden (security.bsd.see_other_uids=0): run as root to see them")
		}
	}
	if b.skipped > 0 {
		c.Notes = append(c.Notes, fmt.Sprintf("%d lines of the system's table were not understood and are missing here", b.skipped))
	}
	return c
}
