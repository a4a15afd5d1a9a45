//go:build amd64 || arm64

package bindnotify

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"berth/netstate"
	"berth/netstate/lab"
)

// adopted listens in this process and takes the listener over.
func adopted(t *testing.T, addr string) (net.Listener, netstate.Holder, *Sockets) {
	t.Helper()
	ln, h, s := listen(t, addr)
	sockets := &Sockets{}
	t.Cleanup(func() { sockets.Close() })
	if err := sockets.Adopt(h, s); err != nil {
		t.Fatal(err)
	}
	return ln, h, sockets
}

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// accepts counts what the listener has queued, without waiting for more.
func accepts(t *testing.T, ln net.Listener) int {
	t.Helper()
	tcp := ln.(*net.TCPListener)
	raw, err := tcp.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	if err := raw.Control(func(fd uintptr) {
		for {
			c, _, err := unix.Accept4(int(fd), unix.SOCK_CLOEXEC)
			if err != nil {
				return
			}
			unix.Close(c)
			n++
		}
	}); err != nil {
		t.Fatal(err)
	}
	return n
}

func reusePortOf(t *testing.T, ln net.Listener) (on int) {
	t.Helper()
	raw, err := ln.(*net.TCPListener).SyscallConn()
	if err == nil {
		err = raw.Control(func(fd uintptr) { on, _ = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT) })
	}
	if err != nil {
		t.Fatal(err)
	}
	return on
}

// TestSuccessor: from one moment on the old server gets nothing, and once the
// successor is withdrawn it gets everything, with its options as they were.
func TestSuccessor(t *testing.T) {
	lab.NeedNamespace(t)
	for _, addr := range []string{"127.0.0.1:2100", "[::1]:2101", "0.0.0.0:2102", "[::]:2103"} {
		t.Run(addr, func(t *testing.T) {
			ln, _, sockets := adopted(t, addr)
			to := netip.MustParseAddrPort(addr)
			if to.Addr().IsUnspecified() {
				to = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), to.Port())
			}
			if err := sockets.Succeed(); err != nil {
				t.Fatal(err)
			}
			if reusePortOf(t, ln) != 0 {
				t.Error("the old socket may be shared before it has to be")
			}
			const n = 20
			for range n {
				dial(t, to.String())
			}
			if got := accepts(t, ln); got != n {
				t.Errorf("%d of %d while the successor did not listen", got, n)
			}
			if err := sockets.Steer(); err != nil {
				t.Fatal(err)
			}
			for range n {
				dial(t, to.String())
			}
			if got := accepts(t, ln); got != 0 {
				t.Errorf("%d after that", got)
			}
			sockets.Withdraw()
			if reusePortOf(t, ln) != 0 {
				t.Error("the old socket keeps SO_REUSEPORT")
			}
			for range n {
				dial(t, to.String())
			}
			if got := accepts(t, ln); got != n {
				t.Errorf("%d of %d after it was withdrawn", got, n)
			}
			// The same if this process ends, however that happens.
			if err := errors.Join(sockets.Succeed(), sockets.Steer()); err != nil {
				t.Fatal(err)
			}
			sockets.Close()
			for range n {
				dial(t, to.String())
			}
			if got := accepts(t, ln); got != n {
				t.Errorf("%d of %d after all was closed here", got, n)
			}
		})
	}
}

// TestSuccessorOfMPTCP: the listener of a Go server is one, its successor not.
func TestSuccessorOfMPTCP(t *testing.T) {
	lab.NeedNamespace(t)
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_MPTCP)
	if err != nil {
		t.Skip("no MPTCP here: ", err)
	}
	defer unix.Close(fd)
	if err := errors.Join(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1), unix.Bind(fd, &unix.SockaddrInet6{Port: 2110}), unix.Listen(fd, 5)); err != nil {
		t.Fatal(err)
	}
	dup, err := unix.Dup(fd)
	if err != nil {
		t.Fatal(err)
	}
	s, err := newSocket(dup)
	if err != nil {
		t.Fatal(err)
	}
	sockets := &Sockets{kept: []*keptSocket{{socket: s, key: s.key(s.local())}}}
	defer sockets.Close()
	dial(t, "127.0.0.1:2110")
	if err := errors.Join(sockets.Succeed(), sockets.Steer()); err != nil {
		t.Fatal(err)
	}
	if n := sockets.queued(); n != 1 {
		t.Errorf("%d are left to accept", n)
	}
	dial(t, "127.0.0.1:2110")
	if c, _, err := unix.Accept(fd); err != nil {
		t.Error(err)
	} else {
		unix.Close(c)
	}
	if _, _, err := unix.Accept(fd); !errors.Is(err, unix.EAGAIN) {
		t.Errorf("it accepts more: %v", err)
	}
	if n := sockets.queued(); n != 0 {
		t.Errorf("%d are left to accept", n)
	}
}

// TestSuccessorOfAnotherUser: only the same user may share an address.
func TestSuccessorOfAnotherUser(t *testing.T) {
	lab.NeedNamespace(t)
	const nobody = 65534
	fd, err := socketOf(nobody, unix.AF_INET)
	if err != nil {
		t.Fatal(err)
	}
	s, err := newSocket(fd)
	if err != nil {
		t.Fatal(err)
	}
	if s.uid != nobody {
		t.Skip("cannot become another user")
	}
	sockets := &Sockets{kept: []*keptSocket{{socket: s}}}
	defer sockets.Close()
	if err := errors.Join(unix.Bind(fd, loopback(2120)), unix.Listen(fd, 5)); err != nil {
		t.Fatal(err)
	}
	sockets.kept[0].key = s.key(s.local())
	if err := errors.Join(sockets.Succeed(), sockets.Steer()); err != nil {
		t.Fatal(err)
	}
	dial(t, "127.0.0.1:2120")
	if n := sockets.queued(); n != 0 || sockets.kept[0].next.uid != nobody {
		t.Errorf("%d queued, user %d", n, sockets.kept[0].next.uid)
	}
}

// TestSuccessorInTheWay: where none can be made, the socket itself is given.
func TestSuccessorInTheWay(t *testing.T) {
	lab.NeedNamespace(t)
	_, _, sockets := adopted(t, "127.0.0.1:2130")
	// Another listener of the address that stays.
	for _, k := range sockets.kept {
		k.turn(reusePort, true)
	}
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) })
	}}
	config.SetMultipathTCP(false)
	other, err := config.Listen(t.Context(), "tcp", "127.0.0.1:2130")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if err := sockets.Succeed(); !errors.Is(err, unix.EADDRINUSE) || sockets.Succeeded() {
		t.Errorf("%v", err)
	}
}

// TestDrain: it ends when the last connection was accepted, and at once when it
// is told to.
func TestDrain(t *testing.T) {
	lab.NeedNamespace(t)
	ln, h, sockets := adopted(t, "127.0.0.1:2140")
	dial(t, "127.0.0.1:2140")
	if err := errors.Join(sockets.Succeed(), sockets.Steer()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- sockets.Drain(ctx, []netstate.Holder{h}, true) }()
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	began := time.Now()
	go func() { ended <- sockets.Drain(t.Context(), []netstate.Holder{h}, true) }()
	if n := accepts(t, ln); n != 1 {
		t.Errorf("%d accepted", n)
	}
	if err := <-ended; err != nil || time.Since(began) > quietMostBeside {
		t.Errorf("%v after %v", err, time.Since(began))
	}
}

// TestSuccessorIsGiven: the new server's own listen call sends it the clients,
// and when all is done nobody may join it who could not before.
func TestSuccessorIsGiven(t *testing.T) {
	lab.NeedNamespace(t)
	ln, _, sockets := adopted(t, "127.0.0.1:2150")
	if err := sockets.Succeed(); err != nil {
		t.Fatal(err)
	}
	// One that the old server has, and the new one must not stumble over.
	dial(t, "127.0.0.1:2150")
	conn, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	p := startBinder(t, role("binder"), Config{Sockets: sockets})
	p.do("ok", "socket a")
	p.do("ok", "bind a 127.0.0.1:2150") // without SO_REUSEADDR
	if e := p.event(KindBind); e.How != HowGiven {
		t.Errorf("%+v", e)
	}
	p.do("ok", "listen a 5")
	client := dial(t, "127.0.0.1:2150")
	if n := accepts(t, ln); n != 0 {
		t.Errorf("the old server accepts %d", n)
	}
	ln.Close()
	sockets.Leave()
	sockets.Close()
	p.do("ok", "accept a")
	var word [8]byte
	if n, err := client.Read(word[:]); string(word[:n]) != "served" {
		t.Errorf("%q, %v", word[:n], err)
	}
	p.do("0", "option a %d %d", unix.SOL_SOCKET, unix.SO_REUSEPORT)
	p.do("0", "option a %d %d", unix.SOL_SOCKET, unix.SO_REUSEADDR)
}
