package netstate

import (
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"berth/netstate/lab"
)

func TestSockstatLine(t *testing.T) {
	const text = "sockets: used 14\nTCP: inuse 2 orphan 0 tw 3 alloc 5 mem 176\nUDP: inuse 1 mem 0\nRAW: inuse x\n"
	line, ok := sockstatLine([]byte(text), "TCP:")
	if !ok || line["inuse"] != 2 || line["tw"] != 3 || line["alloc"] != 5 {
		t.Errorf("got %v, %v", line, ok)
	}
	for _, protocol := range []string{"TCP6:", "RAW:", ""} {
		if line, ok := sockstatLine([]byte(text), protocol); ok {
			t.Errorf("%q: got %v", protocol, line)
		}
	}
}

// TestOnlyListeners holds the counters against the whole table while sockets
// of all kinds come and go. Other processes may have sockets too, so that a
// "no" proves nothing; a "yes" has to be true.
func TestOnlyListeners(t *testing.T) {
	lab.NeedNamespace(t)
	b, err := openBackend(Scope{})
	if err != nil {
		t.Fatal(err)
	}
	d, ok := b.(*diagBackend)
	if !ok {
		t.Skip("needs NETLINK_SOCK_DIAG")
	}
	defer d.close()
	must := func(s *lab.Socket, err error) *lab.Socket {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	yes := 0
	check := func(what string) {
		t.Helper()
		listeners, others := 0, 0
		all, err := d.read(t.Context(), wantAll, nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := range all {
			if all[i].State == Listen {
				listeners++
			} else if occupies(&all[i]) {
				others++
			}
		}
		for n := range listeners + others + 2 {
			if d.counts.only(n) {
				if n != listeners || others > 0 {
					t.Errorf("%s: only %d listeners, with %d of them and %d other sockets", what, n, listeners, others)
				}
				yes++
			}
		}
		few, err := d.read(t.Context(), wantBinders, nil)
		if err != nil {
			t.Fatal(err)
		}
		if len(few) != listeners+others {
			t.Errorf("%s: %d sockets were read, and there are %d", what, len(few), listeners+others)
		}
	}
	check("nothing")
	addr := netip.MustParseAddrPort("127.0.0.1:0")
	l := must(lab.Listen(addr, lab.Options{}))
	check("a listener")
	six := must(lab.Listen(netip.MustParseAddrPort("[::1]:0"), lab.Options{}))
	check("two families")
	bound := must(lab.Bound(addr, lab.Options{}))
	check("bound only")
	bound.Close()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	check("without a port")
	unix.Close(fd)
	c, err := l.Dial(lab.Route{})
	if err != nil {
		t.Fatal(err)
	}
	check("a connection")
	if err := c.Server.TimeWait(); err != nil {
		t.Fatal(err)
	}
	check("TIME-WAIT")
	six.Close()
	l.Close()
	check("TIME-WAIT alone")
	t.Logf("the counters were enough %d times", yes)
}
