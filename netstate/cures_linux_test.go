package netstate_test

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"berth/netstate"
	"berth/netstate/lab"
	"berth/netstate/sockdiag"
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

// question is a command of berth, read back.
type question struct {
	verb    string
	spec    netstate.BindSpec
	timeout time.Duration
	destroy bool
}

// questions reads a cure's command as the command line would.
func questions(t *testing.T, command string) []question {
	t.Helper()
	var qs []question
	for part := range strings.SplitSeq(command, ";") {
		words := strings.Fields(strings.TrimPrefix(strings.TrimSpace(part), "sudo "))
		if len(words) < 3 || words[0] != "berth" {
			t.Fatalf("%q is no command of berth", part)
		}
		port, err := netstate.ParsePort(words[2])
		if err != nil {
			t.Fatal(err)
		}
		q := question{verb: words[1]}
		fs := flag.NewFlagSet(words[1], flag.ContinueOnError)
		host := fs.String("host", "", "")
		reuseAddr, reusePort := fs.Bool("reuseaddr", true, ""), fs.Bool("reuseport", false, "")
		v6only := fs.Bool("v6only", false, "")
		uid := fs.Uint("uid", uint(os.Geteuid()), "")
		switch q.verb {
		case "free":
			fs.BoolVar(&q.destroy, "destroy", false, "")
		case "wait":
			fs.DurationVar(&q.timeout, "timeout", 0, "")
		}
		if err := fs.Parse(words[3:]); err != nil || fs.NArg() > 0 {
			t.Fatalf("%q: %v, left %q", part, err, fs.Args())
		}
		addr, err := netstate.ResolveHost(t.Context(), *host)
		if err != nil {
			t.Fatal(err)
		}
		q.spec = netstate.NewBindSpec(addr, port)
		q.spec.ReuseAddr, q.spec.ReusePort, q.spec.UID = *reuseAddr, *reusePort, uint32(*uid)
		fs.Visit(func(f *flag.Flag) {
			if f.Name == "v6only" {
				q.spec.V6Only = *v6only
			}
		})
		qs = append(qs, q)
	}
	return qs
}

// cureTest is one kind of scene with what is needed to build it again.
type cureTest struct {
	sys     *netstate.System
	build   func(*stage)
	root    bool
	soon    bool            // tcp_fin_timeout is a second
	waited  map[string]bool // a real wait was made for a kind of cure, which is enough once
	applied map[netstate.CureAction]int
}

func (c *cureTest) stage(t *testing.T) *stage {
	t.Helper()
	port, err := lab.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	s := &stage{t: t, port: port}
	c.build(s)
	return s
}

// TestCuresWork applies every cure of every verdict to the real scene and
// makes the bind, and reads the printed commands back.
func TestCuresWork(t *testing.T) {
	lab.NeedNamespace(t)
	c := cureTest{root: os.Geteuid() == 0, waited: map[string]bool{}, applied: map[netstate.CureAction]int{}}
	c.soon = setSysctl(t, "ipv4.tcp_fin_timeout", "1")
	c.sys = openSystem(t)
	for _, sc := range cureScenes {
		t.Run(sc.name, func(t *testing.T) {
			c.build = sc.build
			s := c.stage(t)
			defer func() { s.close() }()
			for i := range cureBinds(s.port) {
				v := c.why(t, cureBinds(s.port)[i])
				if got := actions(&v); i == 0 && c.root && got != sc.want {
					t.Errorf("cures %q, want %q\n%s", got, sc.want, v.Summary)
				}
				for n := 0; n < len(v.Cures); n++ {
					if c.apply(t, s, &v, v.Cures[n]) {
						s.close()
						s = c.stage(t)
						v = c.why(t, cureBinds(s.port)[i])
					}
				}
			}
		})
	}
	t.Logf("applied %v, waited for %v", c.applied, c.waited)
	for _, a := range []netstate.CureAction{netstate.CureStop, netstate.CureWait, netstate.CureHost, netstate.CureReuseAddr} {
		if c.applied[a] == 0 && (c.soon || a != netstate.CureWait) {
			t.Errorf("no scene led to the cure %s", a)
		}
	}
	if !c.root {
		t.Skip("needs root for the cures destroy and wait; the others were applied")
	}
	if c.applied[netstate.CureDestroy] == 0 {
		t.Error("no scene led to the cure destroy")
	}
}

func (c *cureTest) why(t *testing.T, spec netstate.BindSpec) netstate.Verdict {
	t.Helper()
	v, err := c.sys.Why(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func actions(v *netstate.Verdict) string {
	var names []string
	for _, c := range v.Cures {
		names = append(names, string(c.Action))
	}
	return strings.Join(names, " ")
}

// apply does what the cure says and makes the bind. It reports whether the
// scene is another one afterwards.
func (c *cureTest) apply(t *testing.T, s *stage, v *netstate.Verdict, cure netstate.Cure) (changed bool) {
	t.Helper()
	qs := questions(t, cure.Command)
	wanted := v.Spec
	switch cure.Action {
	case netstate.CureReuseAddr:
		wanted.ReuseAddr = true
	case netstate.CureHost:
		wanted.Addr, wanted.Family, wanted.V6Only = qs[0].spec.Addr, qs[0].spec.Family, qs[0].spec.V6Only
		if wanted == v.Spec {
			t.Errorf("%s: the cure %q is the same bind", v.Spec, cure.Command)
		}
	}
	for _, q := range qs {
		if q.verb == "free" {
			q.spec.UID = wanted.UID // it has no such flag: who runs it has to signal
		}
		if q.spec != wanted {
			t.Errorf("%q asks about %s instead of %s", cure.Command, inFull(q.spec), inFull(wanted))
		}
	}
	conditional := strings.Contains(cure.Text, ", if ")
	if conditional && c.root {
		t.Errorf("root can know, and %q depends on something\n%s", cure.Text, v.Summary)
	}
	kind := string(cure.Action)
	if slices.ContainsFunc(v.Blockers, func(b netstate.Blocker) bool { return b.Socket.Lingering() }) {
		kind += " and lingering"
	}
	var patience time.Duration
	switch cure.Action {
	case netstate.CureReuseAddr, netstate.CureHost:
	case netstate.CureStop:
		s.stop(t, v)
		changed = true
		if len(qs) == 2 { // and wait for what is left
			if least := time.Minute + time.Second; qs[1].timeout < least {
				t.Errorf("%q waits less than %v", cure.Command, least)
			}
			if !c.soon || c.waited[kind] {
				return true
			}
			c.waited[kind], patience = true, 10*time.Second
		}
	case netstate.CureDestroy:
		if !c.root {
			return false
		}
		if !qs[0].destroy {
			t.Errorf("%q does not destroy", cure.Command)
		}
		s.stop(t, v)
		c.destroy(t, v.Spec)
		changed = true
	case netstate.CureWait:
		if end := v.At.Add(qs[0].timeout); !end.After(v.Clears.Until) {
			t.Errorf("%q gives up %v before the latest end", cure.Command, v.Clears.Until.Sub(end))
		}
		if c.waited[kind] || time.Until(v.Clears.From) > 2*time.Second {
			return false
		}
		c.waited[kind], changed, patience = true, true, time.Until(v.Clears.From)+5*time.Second
	default:
		t.Fatalf("the cure %+v has no place in this scene", cure)
	}
	if patience == 0 && !conditional {
		patience = time.Second // a busy machine answers late
	}
	err := bindWithin(t, wanted, patience)
	if err == nil {
		c.applied[cure.Action]++
	} else if !conditional {
		t.Errorf("%s: the cure does not work: %s (%s): %v\n%s", inFull(v.Spec), cure.Text, cure.Command, err, v.Summary)
	}
	return changed
}

func inFull(b netstate.BindSpec) string {
	return fmt.Sprintf("%s (reuseaddr %v, reuseport %v, v6only %v, uid %d)", b, b.ReuseAddr, b.ReusePort, b.V6Only, b.UID)
}

// stop ends the processes that the verdict names and no other.
func (s *stage) stop(t *testing.T, v *netstate.Verdict) {
	t.Helper()
	for _, h := range v.Holders() {
		i := slices.IndexFunc(s.holders, func(c *lab.Child) bool { return c.PID == h.ID.PID })
		if i < 0 {
			t.Fatalf("the verdict names pid %d, which is no holder of this scene", h.ID.PID)
		}
		if p, err := os.FindProcess(h.ID.PID); err != nil {
			t.Fatal(err)
		} else if err := p.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Fatal(err)
		}
		if err := s.holders[i].Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// destroy destroys what is left on the port and refuses the bind.
func (c *cureTest) destroy(t *testing.T, spec netstate.BindSpec) {
	t.Helper()
	conn, err := sockdiag.Dial()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	v := c.why(t, spec)
	for i := range v.Blockers {
		if s := &v.Blockers[i].Socket; s.Lingering() {
			r := s.Record()
			if err := conn.Destroy(&r); err != nil && !errors.Is(err, unix.ENOENT) {
				t.Fatal(err)
			}
		}
	}
}

// bindWithin makes the bind until it succeeds. The end of a timer in the
// kernel is no event that could be waited for.
func bindWithin(t *testing.T, spec netstate.BindSpec, patience time.Duration) error {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); ; {
		p := netstate.TryBind(spec)
		if p.Bindable() || p.Class() != netstate.ClassInUse || time.Now().After(end) {
			return p.Err
		}
		select {
		case <-tick.C:
		case <-t.Context().Done():
			return t.Context().Err()
		}
	}
}

// setSysctl sets an option of this namespace for the time of the test, and
// reports whether it could.
func setSysctl(t *testing.T, name, value string) bool {
	t.Helper()
	path := "/proc/sys/net/" + strings.ReplaceAll(name, ".", "/")
	old, err := os.ReadFile(path)
	if err != nil {
		return false
	}
	if err := os.WriteFile(path, []byte(value), 0); err != nil {
		return false
	}
	t.Cleanup(func() {
		if err := os.WriteFile(path, old, 0); err != nil {
			t.Errorf("put %s back: %v", name, err)
		}
	})
	return true
}

// assignment reads "sysctl -w net.NAME=VALUE".
func assignment(t *testing.T, command string) (name, value string) {
	t.Helper()
	rest, ok := strings.CutPrefix(command, "sysctl -w net.")
	if name, value, ok2 := strings.Cut(rest, "="); ok && ok2 {
		return name, value
	}
	t.Fatalf("%q sets nothing", command)
	return "", ""
}

func find(v *netstate.Verdict, a netstate.CureAction) []netstate.Cure {
	var cs []netstate.Cure
	for _, c := range v.Cures {
		if c.Action == a {
			cs = append(cs, c)
		}
	}
	return cs
}

// TestReserveKeepsThePort: a client got the port from the system. Reserving it
// does not free it, and the system never hands it out again, nor any port that
// was reserved before.
func TestReserveKeepsThePort(t *testing.T) {
	lab.NeedNamespace(t)
	const low, port, high = 41000, 41001, 41003
	if !setSysctl(t, "ipv4.ip_local_port_range", fmt.Sprintf("%d %d", low, high)) || !setSysctl(t, "ipv4.ip_local_reserved_ports", strconv.Itoa(low)) {
		t.Skip("needs root: the port range of the namespace is to be set")
	}
	sys := openSystem(t)
	ln := socket(t)(lab.Listen(netip.MustParseAddrPort("127.0.0.1:20999"), flagged))
	defer ln.Close()

	// handedOut connects until the system has no port left.
	handedOut := func() (ports map[uint16]*lab.Conn, release func()) {
		ports = map[uint16]*lab.Conn{}
		for {
			c, err := ln.Dial(lab.Route{})
			if errors.Is(err, unix.EADDRNOTAVAIL) {
				return ports, func() {
					for _, c := range ports {
						// A reset leaves nothing on the port.
						unix.SetsockoptLinger(c.Client.FD(), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
						c.Close()
					}
				}
			}
			if err != nil {
				t.Fatal(err)
			}
			ports[c.Client.Addr().Port()] = c
		}
	}
	ports, release := handedOut()
	if ports[port] == nil || ports[low] != nil || len(ports) != 3 {
		t.Fatalf("the system handed out %v", ports)
	}
	spec := netstate.NewBindSpec(netip.MustParseAddr("127.0.0.1"), port)
	v, err := sys.Why(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	cs := find(&v, netstate.CureReserve)
	if len(cs) != 1 || len(find(&v, netstate.CureStop)) != 0 {
		t.Fatalf("%s\ncures %+v", v.Summary, v.Cures)
	}
	name, value := assignment(t, cs[0].Command)
	// What the shell puts in place of $(…).
	value = strings.ReplaceAll(strings.Trim(value, `"`), "$(sysctl -n net.ipv4.ip_local_reserved_ports)", strconv.Itoa(low))
	if !setSysctl(t, name, value) {
		t.Fatalf("the kernel refuses %s=%s", name, value)
	}
	if p := netstate.TryBind(spec); p.Bindable() {
		t.Error("the cure says that it does not free the port now, and it did")
	}
	release()
	ports, release = handedOut()
	defer release()
	if ports[port] != nil || ports[low] != nil || len(ports) != 2 {
		t.Errorf("after the reservation the system handed out %v", ports)
	}
	if p := netstate.TryBind(spec); !p.Bindable() {
		t.Errorf("the port is free and reserved: %v", p.Err)
	}
}

func openSystem(t *testing.T) *netstate.System {
	t.Helper()
	sys, err := netstate.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sys.Close() })
	return sys
}

// TestPrivilegeOpensLowPorts asks without the right to low ports and then
// gives it, once to the program and once to everybody.
func TestPrivilegeOpensLowPorts(t *testing.T) {
	lab.NeedNamespace(t)
	const port = 97
	spec := netstate.NewBindSpec(netip.MustParseAddr("127.0.0.1"), port)
	sys := openSystem(t)
	ask := func() netstate.Verdict {
		t.Helper()
		v, err := sys.Why(t.Context(), spec)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	root := os.Geteuid() == 0
	if root {
		// A capability belongs to a thread.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		setLowPorts(t, false)
		defer setLowPorts(t, true)
	}
	v := ask()
	cs := find(&v, netstate.CurePrivilege)
	if v.Reason != netstate.ReasonDenied || len(cs) != 2 || len(v.Cures) != 2 {
		t.Fatalf("%s\ncures %+v", v.Summary, v.Cures)
	}
	if !root {
		t.Skip("needs root to give the right")
	}
	if !strings.HasPrefix(cs[0].Command, "setcap cap_net_bind_service=+ep ") {
		t.Errorf("command %q", cs[0].Command)
	}
	setLowPorts(t, true) // what setcap does for a program
	if err := netstate.TryBind(spec).Err; err != nil {
		t.Errorf("with the capability: %v", err)
	}
	setLowPorts(t, false)

	t.Run("for every user", func(t *testing.T) {
		if name, value := assignment(t, cs[1].Command); !setSysctl(t, name, value) {
			t.Fatalf("the kernel refuses %q", cs[1].Command)
		}
		// A subtest runs on a goroutine, and so a thread, of its own.
		done := make(chan error)
		go func() {
			runtime.LockOSThread() // never unlocked: the thread ends with its lost right
			if err := lowPorts(false); err != nil {
				done <- err
				return
			}
			done <- netstate.TryBind(spec).Err
		}()
		if err := <-done; err != nil {
			t.Errorf("after %q: %v", cs[1].Command, err)
		}
	})

	// The right is checked first and hides that the port is in use: then it
	// is no cure.
	setLowPorts(t, true)
	l := socket(t)(lab.Listen(netip.AddrPortFrom(spec.Addr, port), flagged))
	defer l.Close()
	setLowPorts(t, false)
	v = ask()
	if cs := v.Cures; v.Reason != netstate.ReasonDenied || len(cs) != 1 || cs[0].Command != "sudo berth why 97" {
		t.Errorf("%s\ncures %+v", v.Summary, cs)
	}
}

func setLowPorts(t *testing.T, allowed bool) {
	t.Helper()
	if err := lowPorts(allowed); err != nil {
		t.Fatal(err)
	}
}

// lowPorts gives this thread the right to bind low ports, or takes it away for
// a while.
func lowPorts(allowed bool) error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return err
	}
	data[0].Effective &^= 1 << unix.CAP_NET_BIND_SERVICE
	if allowed {
		data[0].Effective |= 1 << unix.CAP_NET_BIND_SERVICE
	}
	return unix.Capset(&header, &data[0])
}

// TestHostCureIsBindable: an address that this machine does not have, on a
// port that is free or taken at the address that would be proposed first.
func TestHostCureIsBindable(t *testing.T) {
	lab.NeedNamespace(t)
	sys := openSystem(t)
	port, err := lab.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	for _, taken := range []string{"", "127.0.0.1", "0.0.0.0", "::"} {
		t.Run("taken "+taken, func(t *testing.T) {
			if taken != "" {
				l := socket(t)(lab.Listen(netip.AddrPortFrom(netip.MustParseAddr(taken), port), plain))
				defer l.Close()
			}
			for _, addr := range []string{"192.0.2.1", "2001:db8::1", "::ffff:192.0.2.1", "ff02::1"} {
				for _, reuse := range []bool{true, false} {
					spec := netstate.NewBindSpec(netip.MustParseAddr(addr), port)
					spec.ReuseAddr = reuse
					v, err := sys.Why(t.Context(), spec)
					if err != nil {
						t.Fatal(err)
					}
					cs := find(&v, netstate.CureHost)
					if v.Reason != netstate.ReasonNoAddress || len(cs) != len(v.Cures) || len(cs) == 0 != (taken == "::") {
						t.Fatalf("%s\ncures %+v", v.Summary, v.Cures)
					}
					for _, c := range cs {
						q := questions(t, c.Command)[0]
						if q.spec.ReuseAddr != reuse || q.spec.Port != port {
							t.Errorf("%q asks another question", c.Command)
						}
						if err := netstate.TryBind(q.spec).Err; err != nil {
							t.Errorf("%s: %q: %v", spec, c.Command, err)
						}
					}
				}
			}
		})
	}
}

// TestHostCureWithoutIPv6: where IPv6 is turned off, ::1 is no way out.
func TestHostCureWithoutIPv6(t *testing.T) {
	lab.NeedNamespace(t)
	port, err := lab.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	spec := netstate.NewBindSpec(netip.MustParseAddr("127.0.0.1"), port)
	l := socket(t)(lab.Listen(spec.AddrPort(), flagged))
	defer l.Close()
	hosts := func() []netstate.Cure {
		t.Helper()
		v, err := openSystem(t).Why(t.Context(), spec)
		if err != nil {
			t.Fatal(err)
		}
		return find(&v, netstate.CureHost)
	}
	if cs := hosts(); len(cs) != 1 {
		t.Fatalf("with IPv6: %+v", cs)
	}
	if !setSysctl(t, "ipv6.conf.lo.disable_ipv6", "1") {
		t.Skip("needs root: IPv6 is to be turned off in the namespace")
	}
	v6 := netstate.NewBindSpec(netip.IPv6Loopback(), port)
	if p := netstate.TryBind(v6); p.Class() != netstate.ClassNoAddress {
		t.Fatalf("the bind to ::1 gives %v", p.Err)
	}
	if cs := hosts(); len(cs) != 0 {
		t.Errorf("without IPv6: %+v", cs)
	}
}
