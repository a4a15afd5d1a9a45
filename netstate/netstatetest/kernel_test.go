package netstatetest

import (
	"context"
	"errors"
	"io/fs"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"berth/netstate"
)

// The methods that packages reclaim and gatewaylaunch ask for, but for Open,
// whose result is theirs.
var _ interface {
	Why(context.Context, netstate.BindSpec) (netstate.Verdict, error)
	TryBind(netstate.BindSpec) netstate.Probe
	Destroy(context.Context, netstate.BindSpec, []netstate.Socket) (int, error)
	Wake(context.Context, netstate.BindSpec) <-chan struct{}
	netstate.Reader
	Owners(context.Context, []netstate.Socket) (*netstate.Owners, error)
} = (*Kernel)(nil)

var _ interface {
	Signal(syscall.Signal) error
	Done() <-chan struct{}
	Close() error
} = (*Process)(nil)

var (
	loopback = netip.MustParseAddr("127.0.0.1")
	client   = netip.MustParseAddrPort("127.0.0.1:50000")
)

func server(port uint16) netstate.BindSpec {
	return netstate.BindSpec{Addr: loopback, Family: netstate.INET, Port: port, ReuseAddr: true, UID: 1000}
}

// child is an accepted connection of the server of spec.
func child(spec netstate.BindSpec) netstate.Socket {
	return netstate.Socket{Local: spec.AddrPort(), Remote: client, State: netstate.Established, ReuseAddr: netstate.TriOf(spec.ReuseAddr)}
}

func listen(t *testing.T, k *Kernel, p *Process, spec netstate.BindSpec) {
	t.Helper()
	if err := k.Listen(p, spec); err != nil {
		t.Fatal(err)
	}
}

func fired(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func TestSignalEndsAProcessAfterItsDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := New()
		spec := server(18789)
		node := k.Start(netstate.Holder{Name: "node", UID: 1000}, Behaviour{Term: 1200 * time.Millisecond})
		listen(t, k, node, spec)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		wake := k.Wake(ctx, spec)
		other := k.Wake(ctx, netstate.BindSpec{Port: 80})

		if err := k.Listen(node, spec); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("a second listener: %v", err)
		}
		p, err := k.Open(node.Holder().ID)
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if err := p.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		time.Sleep(1200*time.Millisecond - 1)
		synctest.Wait()
		if fired(p.Done()) || fired(wake) || k.TryBind(spec).Bindable() {
			t.Error("it ended before its delay")
		}
		<-p.Done()
		<-wake
		if took := time.Since(start); took != 1200*time.Millisecond {
			t.Errorf("it ended after %v", took)
		}
		if probe := k.TryBind(spec); !probe.Bindable() {
			t.Error(probe.Err)
		}
		if fired(other) {
			t.Error("the waiter of another port was woken")
		}
		if err := p.Signal(syscall.SIGKILL); !errors.Is(err, ErrGone) {
			t.Errorf("a signal to an ended process: %v", err)
		}
		if n := k.Opened(); n != 1 {
			t.Errorf("%d holds, want 1", n)
		}
		p.Close()
		if n := k.Opened(); n != 0 {
			t.Errorf("%d holds after Close", n)
		}
		var ops []string
		for _, c := range k.Calls() {
			ops = append(ops, c.Op)
		}
		if got, want := strings.Join(ops, " "), "open term bind bind kill"; got != want {
			t.Errorf("calls %q, want %q", got, want)
		}
		if at := k.Calls()[1].At; at != start {
			t.Errorf("SIGTERM recorded at %v, sent at %v", at, start)
		}
	})
}

func TestIgnoredAndRefusedSignals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := New()
		deaf := k.Start(netstate.Holder{}, Behaviour{Term: Never, Kill: 50 * time.Millisecond})
		deaf.Signal(syscall.SIGTERM)
		time.Sleep(time.Hour)
		if fired(deaf.Done()) {
			t.Error("SIGTERM ended it")
		}
		deaf.Signal(syscall.SIGKILL)
		time.Sleep(50 * time.Millisecond)
		synctest.Wait()
		if !fired(deaf.Done()) {
			t.Error("SIGKILL did not end it")
		}
		roots := k.Start(netstate.Holder{}, Behaviour{Refuse: syscall.EPERM})
		if err := roots.Signal(syscall.SIGTERM); !errors.Is(err, fs.ErrPermission) {
			t.Errorf("%v, expected no permission", err)
		}
		time.Sleep(time.Hour)
		if fired(roots.Done()) {
			t.Error("a refused signal ended it")
		}
	})
}

func TestOpenTellsProcessesApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := New()
		first := k.Start(netstate.Holder{}, Behaviour{})
		id := first.Holder().ID
		first.Exit()
		first.Exit()
		if _, err := k.Open(id); err != ErrGone {
			t.Errorf("after its end: %v", err)
		}
		second := k.Start(netstate.Holder{ID: netstate.ProcessID{PID: id.PID}}, Behaviour{})
		if _, err := k.Open(id); err != ErrStale {
			t.Errorf("after its number was given again: %v", err)
		}
		if p, err := k.Open(second.Holder().ID); err != nil || p != second {
			t.Errorf("the new one: %v, %v", p, err)
		}
		if _, err := k.Open(netstate.ProcessID{PID: 7}); err != ErrGone {
			t.Errorf("a number that was never given: %v", err)
		}
		if err := k.Listen(first, server(18789)); err != ErrGone {
			t.Errorf("an ended process listens: %v", err)
		}
	})
}

func TestSharedListenerEndsWithItsLastHolder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := New()
		spec := server(18789)
		a, b := k.Start(netstate.Holder{Name: "a"}, Behaviour{}), k.Start(netstate.Holder{Name: "b"}, Behaviour{})
		k.Add(netstate.Socket{Local: spec.AddrPort(), State: netstate.Listen}, b, a)
		v, err := k.Why(t.Context(), spec)
		if err != nil {
			t.Fatal(err)
		}
		if hs := v.Holders(); len(hs) != 2 || hs[0].Name != "a" || hs[1].Name != "b" {
			t.Errorf("holders %+v", hs)
		}
		a.Exit()
		if k.TryBind(spec).Bindable() {
			t.Error("free while the other still has it")
		}
		b.Exit()
		if !k.TryBind(spec).Bindable() {
			t.Error("held by nobody")
		}
	})
}

func TestConnectionsLeaveTimeWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := New()
		k.Lag = 700 * time.Millisecond
		spec := server(18789)
		spec.ReuseAddr = false // the old server's; so its remains block
		node := k.Start(netstate.Holder{Name: "node", UID: 1000}, Behaviour{})
		listen(t, k, node, spec)
		k.Add(child(spec), node)
		gone := child(spec)
		gone.State, gone.Remote = netstate.CloseWait, netip.MustParseAddrPort("127.0.0.1:50001")
		k.Add(gone, node)
		wake := k.Wake(t.Context(), spec)
		node.Exit()
		if !fired(wake) {
			t.Error("nobody was told of the end")
		}

		time.Sleep(20 * time.Second)
		v, err := k.Why(t.Context(), server(18789))
		if err != nil {
			t.Fatal(err)
		}
		if v.Reason != netstate.ReasonLingering || len(v.Blockers) != 1 {
			t.Fatalf("%s, blockers %+v", v.Summary, v.Blockers)
		}
		s := v.Blockers[0].Socket
		if s.State != netstate.TimeWait || s.Expires != 40*time.Second || s.Owned() || s.UIDKnown || s.ReuseAddr != netstate.Unknown {
			t.Errorf("%+v", s)
		}
		time.Sleep(40*time.Second + k.Lag - 1)
		if k.TryBind(server(18789)).Bindable() {
			t.Error("free before the timer wheel came by")
		}
		if snap, err := k.Read(t.Context()); err != nil || len(snap.Sockets) != 1 || snap.Sockets[0].Expires != 0 {
			t.Errorf("%+v, %v", snap, err)
		}
		time.Sleep(time.Nanosecond)
		if !k.TryBind(server(18789)).Bindable() {
			t.Error("not free after the timer")
		}
		if fired(wake) {
			t.Error("the end of a timer woke somebody, which Linux does not do")
		}
	})
}

func TestSupervisorStartsItAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := New()
		spec := server(18789)
		var again func()
		again = func() { listen(t, k, k.Start(netstate.Holder{Name: "node"}, Behaviour{OnExit: again}), spec) }
		again()
		pids := map[int]bool{}
		for range 3 {
			v, err := k.Why(t.Context(), spec)
			if err != nil || len(v.Holders()) != 1 {
				t.Fatalf("%+v, %v", v, err)
			}
			id := v.Holders()[0].ID
			pids[id.PID] = true
			p, err := k.Open(id)
			if err != nil {
				t.Fatal(err)
			}
			p.Signal(syscall.SIGTERM)
			<-p.Done()
			synctest.Wait()
		}
		if len(pids) != 3 {
			t.Errorf("%d different processes, want 3", len(pids))
		}
	})
}

func TestDestroy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := New()
		spec := server(18789)
		k.Add(netstate.Socket{Local: spec.AddrPort(), Remote: client, State: netstate.TimeWait})
		node := k.Start(netstate.Holder{}, Behaviour{})
		k.Add(netstate.Socket{Local: netip.MustParseAddrPort("127.0.0.1:80"), State: netstate.Listen}, node)
		wake := k.Wake(t.Context(), spec)
		snap, err := k.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}

		k.Caps.Destroy = false
		if n, err := k.Destroy(t.Context(), netstate.BindSpec{}, snap.Sockets); n != 0 || !errors.Is(err, fs.ErrPermission) {
			t.Errorf("without the right: %d, %v", n, err)
		}
		k.Caps.Destroy = true
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if n, err := k.Destroy(ctx, netstate.BindSpec{}, snap.Sockets); n != 0 || !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %d, %v", n, err)
		}
		if k.TryBind(spec).Bindable() {
			t.Error("a refused or cancelled destroy did something")
		}
		for range 2 { // the second time they are gone, which counts
			if n, err := k.Destroy(t.Context(), netstate.BindSpec{}, snap.Sockets); n != 2 || err != nil {
				t.Errorf("%d, %v", n, err)
			}
		}
		if !k.TryBind(spec).Bindable() || !fired(wake) {
			t.Error("the TIME-WAIT socket is still there, or nobody was told")
		}
		root := server(80)
		root.UID, root.ReuseAddr = 0, false
		v, err := k.Why(t.Context(), root)
		if err != nil || v.Reason != netstate.ReasonBound || len(v.Holders()) != 1 {
			t.Errorf("a destroyed listener: %v %v %v, expected it bound and held", v.Reason, v.Holders(), err)
		}
	})
}

func TestRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := New()
		low, away := server(80), server(18789)
		away.Addr = netip.MustParseAddr("192.0.2.1")
		for _, c := range []struct {
			spec   netstate.BindSpec
			class  netstate.ErrClass
			reason netstate.Reason
		}{
			{low, netstate.ClassDenied, netstate.ReasonDenied},
			{away, netstate.ClassNoAddress, netstate.ReasonNoAddress},
			{server(18789), netstate.ClassNone, netstate.ReasonFree},
		} {
			if got := k.TryBind(c.spec).Class(); got != c.class {
				t.Errorf("%v: class %d, want %d", c.spec, got, c.class)
			}
			if v, err := k.Why(t.Context(), c.spec); err != nil || v.Reason != c.reason {
				t.Errorf("%v: %v, %v; want %v", c.spec, v.Reason, err, c.reason)
			}
		}
		k.Answer(syscall.EADDRINUSE, nil, syscall.EINVAL)
		if p := k.TryBind(server(18789)); p.Class() != netstate.ClassInUse {
			t.Errorf("scripted EADDRINUSE: %v", p.Err)
		}
		if v, _ := k.Why(t.Context(), low); !v.Bindable {
			t.Errorf("scripted success: %v", v.Summary)
		}
		if p := k.TryBind(server(18789)); p.Class() != netstate.ClassNoAddress {
			t.Errorf("scripted EINVAL: %v", p.Err)
		}
		if p := k.TryBind(server(18789)); !p.Bindable() {
			t.Errorf("after the script: %v", p.Err)
		}
	})
}

func TestWhatIsHidden(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := New()
		node := k.Start(netstate.Holder{UID: 1000}, Behaviour{})
		spec := server(18789)
		listen(t, k, node, spec)
		k.Add(netstate.Socket{Local: netip.MustParseAddrPort("0.0.0.0:80"), State: netstate.Listen, Inode: 99, ReuseAddr: netstate.Yes})
		snap, err := k.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if slices.ContainsFunc(snap.Sockets, func(s netstate.Socket) bool { return s.ReuseAddr != netstate.Unknown }) {
			t.Errorf("the table shows SO_REUSEADDR: %+v", snap.Sockets)
		}
		owners, err := k.Owners(t.Context(), snap.Sockets)
		if err != nil || owners.Hidden != 1 || len(owners.OfAll(snap.Sockets)) != 1 {
			t.Errorf("%+v, %v", owners, err)
		}
		v, err := k.Why(t.Context(), spec)
		if err != nil || len(v.Blockers) != 1 || v.Blockers[0].Socket.ReuseAddr != netstate.Yes {
			t.Errorf("the owner's socket does not tell its options: %+v, %v", v.Blockers, err)
		}
	})
}

func TestWaitersEndWithTheirContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := New()
		ctx, cancel := context.WithCancel(t.Context())
		k.Wake(ctx, netstate.BindSpec{Port: 80})
		cancel()
		synctest.Wait()
		if len(k.waiters) != 0 {
			t.Errorf("%d waiters are left", len(k.waiters))
		}
		for _, err := range []error{
			second(k.Read(ctx)), second(k.Owners(ctx, nil)), second(k.Why(ctx, server(80))),
		} {
			if !errors.Is(err, context.Canceled) {
				t.Errorf("%v, expected context.Canceled", err)
			}
		}
		k.NoWake = true
		if k.Wake(t.Context(), netstate.BindSpec{Port: 80}) != nil {
			t.Error("NoWake has a channel")
		}
	})
}

func second[T any](_ T, err error) error { return err }

// TestRulesAgreeWithConflict compares the two independent statements of the
// rules of bind, for every pair of addresses, options and states.
func TestRulesAgreeWithConflict(t *testing.T) {
	type place struct {
		family netstate.Family
		addr   string
		v6only bool
	}
	places := []place{
		{netstate.INET, "127.0.0.1", false}, {netstate.INET, "127.0.0.2", false}, {netstate.INET, "0.0.0.0", false},
		{netstate.INET6, "::1", true}, {netstate.INET6, "::1", false}, {netstate.INET6, "::", false}, {netstate.INET6, "::", true},
		{netstate.INET6, "127.0.0.1", false}, {netstate.INET6, "0.0.0.0", false},
	}
	states := []netstate.Socket{
		{State: netstate.Listen, Inode: 1}, {State: netstate.Bound, Inode: 1}, {State: netstate.Established, Inode: 1},
		{State: netstate.FinWait2, Inode: 1}, {State: netstate.FinWait2, Timer: netstate.TimerTimeWait},
		{State: netstate.TimeWait, Timer: netstate.TimerTimeWait}, {State: netstate.NewSynRecv}, {State: netstate.SynRecv},
	}
	cases := 0
	for _, hp := range places {
		for _, bp := range places {
			for _, h := range states {
				for _, bits := range combinations(6) {
					h.Local = netip.AddrPortFrom(netip.MustParseAddr(hp.addr), 80)
					h.Family, h.V6Only = hp.family, netstate.TriOf(hp.v6only)
					h.ReuseAddr, h.ReusePort = netstate.TriOf(bits[0]), netstate.TriOf(bits[1])
					h.UID, h.UIDKnown = 1000, h.Inode != 0
					h.Device = 2
					b := netstate.BindSpec{
						Addr: netip.MustParseAddr(bp.addr), Family: bp.family, Port: 80, V6Only: bp.v6only,
						ReuseAddr: bits[2], ReusePort: bits[3], UID: 1000,
					}
					if bits[4] {
						b.UID = 1001
					}
					if bits[5] {
						b.Device = 3
					}
					cases++
					if got, want := blocks(&h, b), netstate.Conflict(b, &h) == netstate.Yes; got != want {
						t.Errorf("here %v, Conflict %v\nbind %+v\nsocket %+v", got, want, b, h)
					}
				}
			}
		}
	}
	if want := len(places) * len(places) * len(states) << 6; cases != want {
		t.Errorf("%d cases, want %d", cases, want)
	}
}

// combinations returns every row of n booleans.
func combinations(n int) [][]bool {
	all := make([][]bool, 1<<n)
	for i := range all {
		for bit := range n {
			all[i] = append(all[i], i&(1<<bit) != 0)
		}
	}
	return all
}
