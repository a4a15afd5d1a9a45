package netstatetest

import (
	"context"
	"fmt"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"berth/netstate"
)

// timeWait is how long the kernel keeps what a closed connection leaves.
const timeWait = 60 * time.Second

// Kernel is a machine of its own. It is safe for concurrent use. The exported
// fields are set before use.
type Kernel struct {
	// Caps is what each snapshot claims; Destroy is refused without the right.
	Caps netstate.Caps
	// Lag is how long a TIME-WAIT socket still blocks after its timer is due.
	Lag time.Duration
	// NoWake makes Wake return nil, as on systems without such an event.
	NoWake bool

	mu        sync.Mutex
	sockets   []*entry
	processes map[int]*Process
	pid       int    // the last number given
	serial    uint64 // the last start time, inode or cookie given
	answers   []error
	calls     []Call
	waiters   map[*waiter]bool
}

// entry is a socket, with the options that the table of a real kernel hides.
type entry struct {
	netstate.Socket
	holders []*Process
	taken   int       // duplicates that a test's subject has of it
	ends    time.Time // when its timer is due; zero if it has none
}

type waiter struct {
	port uint16
	c    chan struct{}
}

// Call is one thing that was asked of the kernel.
type Call struct {
	At time.Time
	// Op is "bind", "open", "term", "kill", "take", "shutdown", "listen" or
	// "destroy".
	Op string
	// PID is the process of open, term, kill and take; Spec the bind; Count the
	// number of sockets to destroy.
	PID   int
	Spec  netstate.BindSpec
	Count int
}

// New returns a machine with no socket and no process, which can tell and do
// what Linux can for root.
func New() *Kernel {
	return &Kernel{
		Caps: netstate.Caps{
			Source: "scripted", Timers: true, Bound: true, Inodes: true, AllHolders: true, Destroy: true,
			EphemeralFrom: 32768, EphemeralTo: 60999,
		},
		processes: map[int]*Process{},
		pid:       4200,
		waiters:   map[*waiter]bool{},
	}
}

// Calls returns everything that was asked so far, in order.
func (k *Kernel) Calls() []Call {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.calls)
}

// call must be called with the lock held.
func (k *Kernel) call(c Call) {
	c.At = time.Now()
	k.calls = append(k.calls, c)
}

// next returns a number that was never given before.
func (k *Kernel) next() uint64 {
	k.serial++
	return k.serial
}

// Add puts a socket into the table and returns its cookie. With holders it
// gets an inode, and the user of the first holder unless it has one; it ends
// when the last holder does. Without, it belongs to nobody, or, if it has an
// inode, to a process that may not be seen. Options that are Unknown count as
// not set. A TIME-WAIT socket without Expires has the whole 60 s left.
func (k *Kernel) Add(s netstate.Socket, holders ...*Process) (cookie uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.add(s, holders)
}

func (k *Kernel) add(s netstate.Socket, holders []*Process) (cookie uint64) {
	s.Cookie = k.next()
	if len(holders) > 0 {
		if s.Inode == 0 {
			s.Inode = k.next()
		}
		if !s.UIDKnown {
			s.UID, s.UIDKnown = uint32(holders[0].holder.UID), true
		}
	}
	if s.Family == 0 {
		s.Family = netstate.INET
		if s.Local.Addr().Is6() {
			s.Family = netstate.INET6
		}
	}
	if s.Family == netstate.INET6 && s.V6Only == netstate.Unknown && (s.State == netstate.Listen || s.State == netstate.Bound) {
		// A bind to one IPv6 address forces the option; the default is off.
		s.V6Only = netstate.TriOf(s.Local.Addr().Is6() && !s.Local.Addr().IsUnspecified())
	}
	e := &entry{Socket: s, holders: slices.Clone(holders)}
	if s.State == netstate.TimeWait && s.Expires == 0 {
		s.Expires = timeWait
	}
	if s.State == netstate.TimeWait || s.Timer == netstate.TimerTimeWait {
		e.linger(s.State, s.Expires)
	}
	k.sockets = append(k.sockets, e)
	return s.Cookie
}

// linger makes e a record that only the kernel holds, for d.
func (e *entry) linger(state netstate.State, d time.Duration) {
	e.State, e.Timer = state, netstate.TimerTimeWait
	e.ends = time.Now().Add(d)
	e.holders, e.Inode = nil, 0
	e.UID, e.UIDKnown = 0, false
}

// Remove takes a socket out of the table, as if it ended by itself, and wakes
// whoever waits for that.
func (k *Kernel) Remove(cookie uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.remove(cookie)
}

func (k *Kernel) remove(cookie uint64) {
	for i, e := range k.sockets {
		if e.Cookie == cookie {
			k.sockets = slices.Delete(k.sockets, i, i+1)
			k.wake(e.Local.Port())
			return
		}
	}
}

// sweep drops what has expired. Nobody is told, since Linux tells nobody.
func (k *Kernel) sweep() {
	now := time.Now()
	k.sockets = slices.DeleteFunc(k.sockets, func(e *entry) bool {
		return !e.ends.IsZero() && !now.Before(e.ends.Add(k.Lag))
	})
}

// closeBy ends p's hold on its sockets. What has no other holder goes the way
// that TCP goes when a process ends and its peers answer at once.
func (k *Kernel) closeBy(p *Process) {
	var ended []uint64
	for _, e := range k.sockets {
		i := slices.Index(e.holders, p)
		if i < 0 {
			continue
		}
		e.holders = slices.Delete(e.holders, i, i+1)
		if len(e.holders) > 0 || e.taken > 0 {
			continue
		}
		switch e.State {
		case netstate.Established, netstate.FinWait1, netstate.FinWait2, netstate.Closing:
			e.linger(netstate.TimeWait, timeWait)
			k.wake(e.Local.Port()) // the kernel reports the end of the full socket
		default:
			ended = append(ended, e.Cookie)
		}
	}
	for _, c := range ended {
		k.remove(c)
	}
}

// Answer scripts the results of the next binds, whoever makes them: nil is a
// success. Binds after them are judged by the table again.
func (k *Kernel) Answer(results ...error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.answers = append(k.answers, results...)
}

// TryBind makes one bind and undoes it.
func (k *Kernel) TryBind(spec netstate.BindSpec) netstate.Probe {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.call(Call{Op: "bind", Spec: spec})
	return k.tryBind(spec)
}

// Ready prepares nothing: the bind takes no time here.
func (k *Kernel) Ready(spec netstate.BindSpec) (bind func() netstate.Probe, close func()) {
	return func() netstate.Probe { return k.TryBind(spec) }, func() {}
}

func (k *Kernel) tryBind(spec netstate.BindSpec) netstate.Probe {
	probe := netstate.Probe{Spec: spec, At: time.Now()}
	if len(k.answers) > 0 {
		probe.Err = k.answers[0]
		k.answers = k.answers[1:]
		return probe
	}
	k.sweep()
	if errno := refusal(spec, k.sockets); errno != 0 {
		probe.Err = os.NewSyscallError("bind", errno)
	}
	return probe
}

// Listen makes p listen by the bind of spec, unless that bind is refused.
func (k *Kernel) Listen(p *Process, spec netstate.BindSpec) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if p.hasEnded() {
		return ErrGone
	}
	if err := k.tryBind(spec).Err; err != nil {
		return err
	}
	k.add(netstate.Socket{
		Local: spec.AddrPort(), Family: spec.Family, State: netstate.Listen, Device: spec.Device,
		V6Only: netstate.TriOf(spec.V6Only), ReuseAddr: netstate.TriOf(spec.ReuseAddr), ReusePort: netstate.TriOf(spec.ReusePort),
		UID: spec.UID, UIDKnown: true,
	}, []*Process{p})
	return nil
}

// Read takes a snapshot. As from a real kernel, it shows neither SO_REUSEADDR
// nor SO_REUSEPORT.
func (k *Kernel) Read(ctx context.Context) (*netstate.Snapshot, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.snapshot(false), nil
}

// snapshot fills in the options of owned sockets if asked to, as a real reader
// can by asking the sockets themselves; those that nobody owns stay hidden.
func (k *Kernel) snapshot(flags bool) *netstate.Snapshot {
	k.sweep()
	now := time.Now()
	list := make([]netstate.Socket, 0, len(k.sockets))
	for _, e := range k.sockets {
		s := e.Socket
		if !e.ends.IsZero() {
			s.Expires = max(0, e.ends.Sub(now))
		}
		if flags && len(e.holders) > 0 {
			s.FlagsFrom = netstate.FlagsGetsockopt
			s.ReuseAddr, s.ReusePort = netstate.TriOf(s.ReuseAddr == netstate.Yes), netstate.TriOf(s.ReusePort == netstate.Yes)
		} else {
			s.ReuseAddr, s.ReusePort = netstate.Unknown, netstate.Unknown
			if s.State != netstate.Listen && s.State != netstate.Bound {
				s.V6Only = netstate.Unknown
			}
		}
		list = append(list, s)
	}
	return netstate.NewSnapshot(now, list, k.Caps)
}

// Owners finds the processes that hold the sockets.
func (k *Kernel) Owners(ctx context.Context, sockets []netstate.Socket) (*netstate.Owners, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.owners(sockets), nil
}

func (k *Kernel) owners(sockets []netstate.Socket) *netstate.Owners {
	owners := netstate.NewOwners()
	seen := map[uint64]bool{0: true}
	for i := range sockets {
		inode := sockets[i].Inode
		if seen[inode] {
			continue
		}
		seen[inode] = true
		hidden := true
		for _, e := range k.sockets {
			if e.Inode != inode {
				continue
			}
			holders := slices.Clone(e.holders)
			slices.SortFunc(holders, func(a, b *Process) int { return a.holder.ID.PID - b.holder.ID.PID })
			for _, p := range holders {
				owners.Add(inode, p.holder)
				hidden = false
			}
		}
		if hidden {
			owners.Hidden++
		}
	}
	return owners
}

// Why binds and explains the result, as netstate.System does.
func (k *Kernel) Why(ctx context.Context, spec netstate.BindSpec) (netstate.Verdict, error) {
	if err := ctx.Err(); err != nil {
		return netstate.Verdict{}, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.call(Call{Op: "bind", Spec: spec})
	probe := k.tryBind(spec)
	snap := k.snapshot(true)
	return netstate.Explain(spec, &probe, snap, k.owners(snap.Port(spec.Port))), nil
}

// Destroy ends sockets by their cookies and returns how many it ended. A
// socket that is not there counts, and so does a bound one, which the kernel
// cannot find either. A listener only stops listening: its process still has
// the port.
func (k *Kernel) Destroy(ctx context.Context, _ netstate.BindSpec, sockets []netstate.Socket) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.call(Call{Op: "destroy", Count: len(sockets)})
	for i := range sockets {
		if err := ctx.Err(); err != nil {
			return i, err
		}
		if !k.Caps.Destroy {
			return i, os.NewSyscallError("sock_diag", syscall.EPERM)
		}
		k.destroy(sockets[i].Cookie)
	}
	return len(sockets), nil
}

func (k *Kernel) destroy(cookie uint64) {
	for _, e := range k.sockets {
		if e.Cookie != cookie {
			continue
		}
		switch e.State {
		case netstate.Bound:
		case netstate.Listen:
			e.State = netstate.Bound
			k.wake(e.Local.Port())
		default:
			k.remove(cookie)
		}
		return
	}
}

// Urgent only calls do: no other process delays it here.
func (k *Kernel) Urgent(do func()) { do() }

// Wake fires when a socket of the port ends, except by its timer, until ctx
// ends.
func (k *Kernel) Wake(ctx context.Context, spec netstate.BindSpec) <-chan struct{} {
	if k.NoWake {
		return nil
	}
	w := &waiter{port: spec.Port, c: make(chan struct{}, 1)}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.waiters[w] = true
	context.AfterFunc(ctx, func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		delete(k.waiters, w)
	})
	return w.c
}

// wake must be called with the lock held. A waiter that has not looked yet is
// told once.
func (k *Kernel) wake(port uint16) {
	for w := range k.waiters {
		if w.port == port {
			select {
			case w.c <- struct{}{}:
			default:
			}
		}
	}
}

// mustf ends a test whose script makes no sense.
func mustf(ok bool, format string, args ...any) {
	if !ok {
		panic("netstatetest: " + fmt.Sprintf(format, args...))
	}
}
