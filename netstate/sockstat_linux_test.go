package netstate

import (
	"net/netip"
	"slices"
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
	only, none := 0, 0
	ports := []uint16{1}
	check := func(what string) {
		t.Helper()
		listeners, bound, others := 0, 0, 0
		all, err := d.dump(d.query, nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := range all {
			switch s := &all[i]; {
			case s.State == Listen:
				listeners++
			case s.State == Bound:
				bound++
				others++
			case occupies(s):
				others++
			}
		}
		if d.counts.noneBound() {
			if bound > 0 {
				t.Errorf("%s: none is bound, and %d are", what, bound)
			}
			none++
		}
		for n := range listeners + others + 2 {
			if d.counts.only(n) {
				if n != listeners || others > 0 {
					t.Errorf("%s: only %d listeners, with %d of them and %d other sockets", what, n, listeners, others)
				}
				only++
			}
		}
		if got, err := d.read(t.Context(), 0, nil); err != nil || len(got) != len(all) {
			t.Errorf("%s: %d sockets were read, and there are %d (%v)", what, len(got), len(all), err)
		}
		for _, port := range ports {
			got, err := d.read(t.Context(), port, nil)
			if err != nil {
				t.Fatal(err)
			}
			met := func(s Socket) bool { return s.State == Listen || s.Local.Port() == port && occupies(&s) }
			if got, want := cookies(got, met), cookies(all, met); !slices.Equal(got, want) {
				t.Errorf("%s: of port %d the sockets %v were read, and there are %v", what, port, got, want)
			}
		}
	}
	check("nothing")
	addr := netip.MustParseAddrPort("127.0.0.1:0")
	l := must(lab.Listen(addr, lab.Options{}))
	ports = append(ports, l.Addr().Port())
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
	ports = append(ports, c.Client.Addr().Port())
	check("a connection")
	if err := c.Server.TimeWait(); err != nil {
		t.Fatal(err)
	}
	check("TIME-WAIT")
	six.Close()
	l.Close()
	check("TIME-WAIT alone")
	t.Logf("there were only listeners %d times, and none bound %d times", only, none)
}

// cookies are those of the sockets that are wanted, in order.
func cookies(sockets []Socket, wanted func(Socket) bool) []uint64 {
	var all []uint64
	for _, s := range sockets {
		if wanted(s) {
			all = append(all, s.Cookie)
		}
	}
	slices.Sort(all)
	return all
}
