package netstate_test

import (
	"io"
	"net/netip"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"berth/netstate"
	"berth/netstate/lab"
)

// stage is one port with real sockets on it, held by other processes, each of
// which the test has started and may end.
type stage struct {
	t       *testing.T
	port    uint16
	holders []*lab.Child
	open    []io.Closer
}

func (s *stage) close() {
	for _, c := range s.open {
		c.Close()
	}
	for _, h := range s.holders {
		h.Close()
	}
}

func (s *stage) at(addr string) netip.AddrPort {
	return netip.AddrPortFrom(netip.MustParseAddr(addr), s.port)
}

func (s *stage) listen(addr string, o lab.Options) *lab.Socket {
	s.t.Helper()
	return socket(s.t)(lab.Listen(s.at(addr), o))
}

// socket(t)(f()) is what f returns, or the end of the test.
func socket(t *testing.T) func(*lab.Socket, error) *lab.Socket {
	return func(s *lab.Socket, err error) *lab.Socket {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
}

// give hands a socket over to a process of its own.
func (s *stage) give(socks ...*lab.Socket) {
	s.t.Helper()
	for _, sock := range socks {
		h, err := sock.Inherit()
		if err != nil {
			s.t.Fatal(err)
		}
		s.holders = append(s.holders, h)
		sock.Close()
	}
}

func (s *stage) keep(c io.Closer) { s.open = append(s.open, c) }

func (s *stage) dial(l *lab.Socket, r lab.Route) *lab.Conn {
	s.t.Helper()
	c, err := l.Dial(r)
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

func (s *stage) do(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// end makes a connection in a state and closes what is left of its end. The
// client stays where it has a part in the state.
func (s *stage) end(l *lab.Socket, change func(*lab.Socket) error) {
	s.t.Helper()
	c := s.dial(l, lab.Route{})
	s.do(change(c.Server))
	s.do(c.Server.Close())
	s.keep(c.Client)
}

// client connects from the port to a listener elsewhere and returns both ends.
func (s *stage) client(from string) *lab.Conn {
	s.t.Helper()
	l := socket(s.t)(lab.Listen(netip.MustParseAddrPort("127.0.0.1:0"), lab.Options{}))
	s.keep(l)
	return s.dial(l, lab.Route{From: s.at(from)})
}

var flagged, plain = lab.Options{ReuseAddr: true}, lab.Options{}

// cureScenes are the ways in which a port is taken. The cures listed are those
// for a Node server at 127.0.0.1; every other bind is tried as well.
var cureScenes = []struct {
	name  string
	build func(*stage)
	want  string // as root
}{
	{"a listener", func(s *stage) { s.give(s.listen("127.0.0.1", flagged)) }, "stop host"},
	{"a listener without the flag", func(s *stage) { s.give(s.listen("127.0.0.1", plain)) }, "stop host"},
	{"a dual-stack listener", func(s *stage) { s.give(s.listen("::", flagged)) }, "stop"},
	{"a v6only listener", func(s *stage) { s.give(s.listen("::", lab.Options{ReuseAddr: true, V6Only: true})) }, ""},
	{"a listener of two processes", func(s *stage) {
		l := s.listen("0.0.0.0", flagged)
		h, err := l.Inherit()
		s.do(err)
		s.holders = append(s.holders, h)
		s.give(l)
	}, "stop host"},
	{"two listeners that share the port", func(s *stage) {
		group, err := lab.ListenGroup(s.at("127.0.0.1"), 2)
		s.do(err)
		s.give(group...)
	}, "stop host"},
	{"bound only", func(s *stage) { s.give(socket(s.t)(lab.Bound(s.at("127.0.0.1"), plain))) }, "stop host"},
	{"a listener with a connection", func(s *stage) {
		l := s.listen("127.0.0.1", flagged)
		c := s.dial(l, lab.Route{})
		s.keep(c.Client)
		s.give(l, c.Server)
	}, "stop host"},
	{"a listener without the flag, with a connection", func(s *stage) {
		l := s.listen("127.0.0.1", plain)
		c := s.dial(l, lab.Route{})
		s.keep(c.Client)
		s.give(l, c.Server)
	}, "stop destroy host"},
	{"a connection that outlived its listener", func(s *stage) {
		l := s.listen("0.0.0.0", plain)
		c := s.dial(l, lab.Route{})
		s.keep(c.Client)
		l.Close()
		s.give(c.Server)
	}, "stop destroy host"},
	{"a connection that nobody accepted", func(s *stage) {
		l := s.listen("127.0.0.1", plain)
		s.keep(socket(s.t)(l.Queue(lab.Route{})))
		s.give(l)
	}, "stop host"},
	{"a client sits on the port", func(s *stage) {
		c := s.client("127.0.0.1")
		s.keep(c.Server)
		s.give(c.Client)
	}, "host"},
	{"a client and a listener", func(s *stage) {
		c := s.client("127.0.0.1")
		s.keep(c.Server)
		s.give(c.Client, s.listen("::1", lab.Options{ReuseAddr: true, V6Only: true}))
	}, ""},
	{"TIME-WAIT of a client", func(s *stage) { s.do(s.client("127.0.0.1").Client.TimeWait()) }, "wait destroy host"},
	{"TIME-WAIT of a server without the flag", func(s *stage) {
		l := s.listen("127.0.0.1", plain)
		defer l.Close()
		s.end(l, (*lab.Socket).TimeWait)
	}, "wait destroy host"},
	{"TIME-WAIT of a server with the flag", func(s *stage) {
		l := s.listen("127.0.0.1", flagged)
		defer l.Close()
		s.end(l, (*lab.Socket).TimeWait)
	}, ""},
	{"TIME-WAIT with and without the flag", func(s *stage) {
		l := s.listen("127.0.0.1", flagged)
		s.end(l, (*lab.Socket).TimeWait)
		s.do(unix.SetsockoptInt(l.FD(), unix.SOL_SOCKET, unix.SO_REUSEADDR, 0))
		s.end(l, (*lab.Socket).TimeWait)
		l.Close()
	}, "wait destroy host"},
	{"a listener over its own TIME-WAIT", func(s *stage) {
		l := s.listen("127.0.0.1", plain)
		s.end(l, (*lab.Socket).TimeWait)
		s.give(l)
	}, "destroy host"},
	{"a listener over a FIN-WAIT-2 that ends soon", func(s *stage) {
		l := s.listen("127.0.0.1", plain)
		s.end(l, (*lab.Socket).FinWait2)
		s.give(l)
	}, "stop destroy host"},
	{"a listener over its own TIME-WAIT, with the flag", func(s *stage) {
		l := s.listen("127.0.0.1", flagged)
		s.end(l, (*lab.Socket).TimeWait)
		s.give(l)
	}, "stop host"},
	{"FIN-WAIT-2 that ends soon", func(s *stage) {
		l := s.listen("127.0.0.1", plain)
		defer l.Close()
		s.end(l, (*lab.Socket).FinWait2)
	}, "wait destroy host"},
	{"FIN-WAIT-1 without an end", func(s *stage) {
		l := s.listen("127.0.0.1", plain)
		defer l.Close()
		s.end(l, (*lab.Socket).FinWait1)
	}, "destroy host"},
	{"FIN-WAIT-1 of a live process", func(s *stage) {
		l := s.listen("127.0.0.1", plain)
		defer l.Close()
		c := s.dial(l, lab.Route{})
		s.do(c.Server.FinWait1())
		s.keep(c.Client)
		s.give(c.Server)
	}, "destroy host"},
	{"CLOSE-WAIT", func(s *stage) {
		l := s.listen("127.0.0.1", plain)
		defer l.Close()
		c := s.dial(l, lab.Route{})
		s.do(c.Server.CloseWait())
		s.give(c.Server)
	}, "stop host"},
}

// cureBinds are the binds that are asked about in every scene.
func cureBinds(port uint16) []netstate.BindSpec {
	var specs []netstate.BindSpec
	for _, addr := range []string{"127.0.0.1", "0.0.0.0", "::1", "::", "::ffff:127.0.0.1"} {
		for _, reuse := range []bool{true, false} {
			b := netstate.NewBindSpec(netip.MustParseAddr(addr), port)
			b.ReuseAddr = reuse
			specs = append(specs, b)
		}
	}
	shared := specs[0]
	shared.ReuseAddr, shared.ReusePort = false, true
	v6 := netstate.NewBindSpec(netip.IPv6Unspecified(), port)
	v6.V6Only = true
	specs = append(specs, shared, v6)
	if os.Geteuid() == 0 {
		shared.UID = 65534
		specs = append(specs, shared)
	}
	return specs
}
