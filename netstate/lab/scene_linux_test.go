package lab

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// row is one line of /proc/net/tcp or tcp6, read by the test's own eyes.
type row struct {
	local, remote netip.AddrPort
	state         uint8
	timer         string // "03" is the timer of TIME-WAIT
	inode         uint64
}

// table reads both tables and returns the rows of one local port.
func table(t *testing.T, port uint16) []row {
	t.Helper()
	var rows []row
	for _, file := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		b, err := os.ReadFile(file)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		for i, l := range strings.Split(strings.TrimSpace(string(b)), "\n") {
			if i == 0 {
				continue
			}
			f := strings.Fields(l)
			state, err1 := strconv.ParseUint(f[3], 16, 8)
			inode, err2 := strconv.ParseUint(f[9], 10, 64)
			if err := errors.Join(err1, err2); err != nil {
				t.Fatal(err)
			}
			r := row{local: hexAddr(t, f[1]), remote: hexAddr(t, f[2]), state: uint8(state), timer: f[5][:2], inode: inode}
			if r.local.Port() == port {
				rows = append(rows, r)
			}
		}
	}
	return rows
}

// hexAddr reads "0100007F:4965": 32-bit words in the machine's byte order.
func hexAddr(t *testing.T, text string) netip.AddrPort {
	t.Helper()
	host, p, _ := strings.Cut(text, ":")
	b, err := hex.DecodeString(host)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(b); i += 4 {
		slices.Reverse(b[i : i+4])
	}
	n, err := strconv.ParseUint(p, 16, 16)
	if err != nil {
		t.Fatal(err)
	}
	addr, _ := netip.AddrFromSlice(b)
	return netip.AddrPortFrom(addr.Unmap(), uint16(n))
}

// free returns an address with a port that nothing uses, since Close cannot
// end what an earlier test has left in TIME-WAIT.
func free(t *testing.T, addr string) netip.AddrPort {
	t.Helper()
	port, err := FreePort()
	if err != nil {
		t.Fatal(err)
	}
	return netip.AddrPortFrom(netip.MustParseAddr(addr), port)
}

// bindable reports whether addr can be bound now with the given options.
func bindable(t *testing.T, addr netip.AddrPort, opts Options) bool {
	t.Helper()
	s, err := Bound(addr, opts)
	if err == nil {
		s.Close()
		return true
	}
	if !errors.Is(err, unix.EADDRINUSE) {
		t.Fatal(err)
	}
	return false
}

func needIPv6(t *testing.T, addr string) {
	t.Helper()
	if _, err := os.Stat("/proc/net/tcp6"); err != nil && strings.Contains(addr, ":") {
		t.Skip("needs IPv6")
	}
}

var reuse = Options{ReuseAddr: true}

func TestMakeEachState(t *testing.T) {
	NeedNamespace(t)
	numbers := map[string]uint8{
		"LISTEN": 10, "BOUND": closed, "SYN-SENT": synSent, "ESTAB": established, "CLOSE-WAIT": closeWait,
		"FIN-WAIT-1": finWait1, "FIN-WAIT-2": finWait2, "CLOSING": closing, "LAST-ACK": lastAck, "TIME-WAIT": 6,
	}
	if len(numbers) != len(States()) {
		t.Fatalf("%d states are tested, the lab makes %v", len(numbers), States())
	}
	for _, host := range []string{"127.0.0.1", "0.0.0.0", "::1", "::", "::ffff:127.0.0.1"} {
		for _, state := range States() {
			t.Run(state+" "+host, func(t *testing.T) {
				needIPv6(t, host)
				addr := free(t, host)
				scene, err := Make(state, addr, Options{})
				if err != nil {
					t.Fatal(err)
				}
				defer scene.Close()
				if state == "TIME-WAIT" {
					if scene.Socket.FD() != -1 {
						t.Error("its descriptor is open")
					}
				} else if got, err := scene.Socket.state(); err != nil || got != numbers[state] {
					t.Errorf("TCP_INFO says state %d, %v; want %d", got, err, numbers[state])
				}
				if (state == "LISTEN" || state == "BOUND") == scene.Remote.IsValid() {
					t.Errorf("remote is %v", scene.Remote)
				}
				if bindable(t, addr, Options{ReuseAddr: true}) {
					t.Error("the port is free")
				}
				rows := table(t, addr.Port())
				if state == "BOUND" {
					if len(rows) != 0 {
						t.Errorf("/proc/net lists %+v", rows)
					}
					return
				}
				if len(rows) != 1 || rows[0].state != numbers[state] || rows[0].local != scene.Local {
					t.Fatalf("/proc/net lists %+v, expected only %v in state %d", rows, scene.Local, numbers[state])
				}
				if scene.Remote.IsValid() && rows[0].remote != scene.Remote {
					t.Errorf("/proc/net says its peer is %v, the scene says %v", rows[0].remote, scene.Remote)
				}
				if owned := state != "TIME-WAIT"; owned != (rows[0].inode != 0) {
					t.Errorf("its inode is %d", rows[0].inode)
				}
			})
		}
	}
}

func TestMakeRefusesAnUnknownState(t *testing.T) {
	if _, err := Make("time_wait", netip.AddrPort{}, Options{}); err == nil || !strings.Contains(err.Error(), "TIME-WAIT") {
		t.Errorf("%v, expected an error that lists the states", err)
	}
}

func TestTimeWaitBlocksByTheOldServersOption(t *testing.T) {
	NeedNamespace(t)
	for _, old := range []Options{{}, {ReuseAddr: true}} {
		addr := free(t, "127.0.0.1")
		scene, err := Make("TIME-WAIT", addr, old)
		if err != nil {
			t.Fatal(err)
		}
		defer scene.Close()
		if bindable(t, addr, Options{}) {
			t.Errorf("%+v: a bind without SO_REUSEADDR succeeded", old)
		}
		if got := bindable(t, addr, reuse); got != old.ReuseAddr {
			t.Errorf("%+v: a bind with SO_REUSEADDR: %v", old, got)
		}
	}
}

func TestManyTimeWait(t *testing.T) {
	NeedNamespace(t)
	l, err := Listen(free(t, "127.0.0.1"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	const n = 100
	for range n {
		c, err := l.Dial(Route{})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Server.TimeWait(); err != nil {
			t.Fatal(err)
		}
	}
	got := 0
	for _, r := range table(t, l.Addr().Port()) {
		if r.state == 6 && r.timer == "03" {
			got++
		}
	}
	if got != n {
		t.Errorf("%d TIME-WAIT sockets, want %d", got, n)
	}
}

func TestOrphans(t *testing.T) {
	NeedNamespace(t)
	for _, state := range []string{"FIN-WAIT-1", "FIN-WAIT-2", "CLOSING", "LAST-ACK"} {
		addr := free(t, "127.0.0.1")
		scene, err := Make(state, addr, Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer scene.Close()
		want, err := scene.Socket.state()
		if err != nil {
			t.Fatal(err)
		}
		if err := scene.Socket.Close(); err != nil {
			t.Fatal(err)
		}
		rows := table(t, addr.Port())
		if len(rows) != 1 {
			t.Fatalf("%s: closing its descriptor left %+v", state, rows)
		}
		if r := rows[0]; r.state != want || r.inode != 0 {
			t.Errorf("%s: became %+v", state, r)
		} else if state == "FIN-WAIT-2" && r.timer != "03" {
			t.Errorf("FIN-WAIT-2 has timer %s, expected the one of TIME-WAIT", r.timer)
		}
		if bindable(t, addr, reuse) {
			t.Errorf("%s: an orphan without SO_REUSEADDR does not block", state)
		}
	}
}

func TestClientOnAPort(t *testing.T) {
	NeedNamespace(t)
	addr := free(t, "127.0.0.1")
	l, err := Listen(netip.MustParseAddrPort("127.0.0.1:0"), reuse)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := l.Dial(Route{From: addr})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if c.Client.Addr() != addr {
		t.Errorf("the client is at %v", c.Client.Addr())
	}
	if bindable(t, addr, reuse) {
		t.Error("a client's connection does not block a server's bind")
	}
	if err := c.Client.TimeWait(); err != nil {
		t.Fatal(err)
	}
	if bindable(t, addr, reuse) {
		t.Error("a client's TIME-WAIT does not block a server's bind")
	}
}

func TestQueuedConnectionHasNoOwner(t *testing.T) {
	NeedNamespace(t)
	l, err := Listen(free(t, "127.0.0.1"), reuse)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err := l.Queue(Route{})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	rows := table(t, l.Addr().Port())
	if !slices.ContainsFunc(rows, func(r row) bool {
		return r.remote == client.Addr() && r.state == established && r.inode == 0
	}) {
		t.Errorf("%+v has no ownerless connection from %v", rows, client.Addr())
	}
	if c, err := l.Dial(Route{}); err == nil {
		c.Close()
		t.Error("Dial returned somebody else's connection")
	}
}

func TestDualStack(t *testing.T) {
	NeedNamespace(t)
	needIPv6(t, "::")
	loopback := netip.AddrFrom4([4]byte{127, 0, 5, 1})
	l, err := Listen(netip.AddrPortFrom(netip.IPv6Unspecified(), 0), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := l.Dial(Route{To: loopback})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if c.Server.Addr().Addr() != loopback {
		t.Errorf("the server's end is at %v, expected it unmapped", c.Server.Addr())
	}
	only, err := Listen(netip.AddrPortFrom(netip.IPv6Unspecified(), 0), Options{V6Only: true})
	if err != nil {
		t.Fatal(err)
	}
	defer only.Close()
	if c, err := only.Dial(Route{To: loopback}); !errors.Is(err, unix.ECONNREFUSED) {
		if err == nil {
			c.Close()
		}
		t.Errorf("IPv4 to a v6only listener: %v, expected refused", err)
	}
}

func TestListenGroup(t *testing.T) {
	NeedNamespace(t)
	addr := free(t, "127.0.0.1")
	group, err := ListenGroup(addr, 3)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, r := range table(t, addr.Port()) {
		if r.state == 10 {
			n++
		}
	}
	if n != 3 {
		t.Errorf("%d listeners, want 3", n)
	}
	for _, s := range group {
		if err := errors.Join(s.Close(), s.Close()); err != nil {
			t.Error(err)
		}
	}
	// A group cannot be joined without the option, and nothing is left behind.
	l, err := Listen(addr, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := ListenGroup(addr, 2); !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("%v, expected EADDRINUSE", err)
	}
}

func TestInheritedListenerOutlivesItsMaker(t *testing.T) {
	NeedNamespace(t)
	addr := free(t, "127.0.0.1")
	l, err := Listen(addr, reuse)
	if err != nil {
		t.Fatal(err)
	}
	child, err := l.Inherit()
	if err != nil {
		t.Fatal(err)
	}
	defer child.Close()
	link := func() string {
		to, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", child.PID, child.FD))
		if err != nil {
			t.Fatal(err)
		}
		return to
	}
	if ours, _ := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", l.FD())); link() != ours {
		t.Errorf("the child has %s, we have %s", link(), ours)
	}
	// The listener still works here, and does not block.
	c, err := l.Dial(Route{})
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if bindable(t, addr, reuse) {
		t.Error("the child does not hold the port")
	}
	if err := errors.Join(child.Close(), child.Close()); err != nil {
		t.Error(err)
	}
	if !bindable(t, addr, reuse) {
		t.Error("the port is still held after the end of the child")
	}
}

func TestStateNeedsAPeer(t *testing.T) {
	l, err := Listen(netip.MustParseAddrPort("127.0.0.1:0"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, change := range []func() error{l.CloseWait, l.FinWait1, l.FinWait2, l.TimeWait, l.Closing, l.LastAck} {
		if err := change(); !errors.Is(err, errNoPeer) {
			t.Errorf("a listener changed its state: %v", err)
		}
	}
}
