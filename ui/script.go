package ui

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"berth/gatewaylaunch"
	"berth/gatewaylaunch/bindnotify"
	"berth/netstate"
	"berth/netstate/netns"
	"berth/reclaim"
)

// script is an Engine on a machine that exists only as data: sockets and
// processes with the times between which they are there. What it says about
// them comes from the real rules (netstate.Explain) and the real planner
// (reclaim.NewPlan), so a scene cannot show a sentence that the product would
// not say. It carries the pictures of the README, the goldens and the tests.
//
// It reads no clock: now is moved by whoever drives it.
type script struct {
	mu      sync.Mutex
	now     time.Time
	sockets []scriptSocket
	procs   map[int]netstate.Holder
	info    GatewayInfo
	caps    netstate.Caps
	hidden  int
	readErr error
	focus   *netstate.BindSpec

	// spaces are the other network namespaces, note what is said if all are
	// wanted, and reach which are.
	spaces []netns.Namespace
	note   string
	reach  Reach

	// exitAfter is how long a process takes to end after SIGTERM, closeAfter
	// how long until it has closed its listener; boot is how long the gateway
	// takes from its start to its bind.
	exitAfter, closeAfter, boot time.Duration
	nextPID                     int
	cookie                      uint64
	gatewayPID                  int
	ends                        map[int]time.Time // when a signalled process ends

	// clock and sleep are those of a driver that has a real clock; nil if the
	// driver moves now and looks at the times of the events itself.
	clock func() time.Time
	sleep func(ctx context.Context, until time.Time) error

	observations chan Observation
	plans        []PlanRequest
	holds        int // plans that are not closed
	launches     int
	stops        int

	support bindnotify.Support // of a hand-over
	fails   error              // what the new server of a hand-over ends with
}

// scriptSocket is a socket that exists from a time until another (zero: for
// good), held by pid (0: by nobody).
type scriptSocket struct {
	netstate.Socket
	netns       uint64
	from, until time.Time
	pid         int
}

func newScript(now time.Time, info GatewayInfo) *script {
	return &script{
		now: now, info: info, procs: map[int]netstate.Holder{}, ends: map[int]time.Time{},
		caps: netstate.Caps{
			Source: "sock_diag", Timers: true, Bound: true, Inodes: true, AllHolders: true,
			EphemeralFrom: 32768, EphemeralTo: 60999,
		},
		exitAfter: 420 * time.Millisecond, closeAfter: 70 * time.Millisecond, boot: 300 * time.Millisecond,
		nextPID:      5377,
		support:      bindnotify.Support{Watch: true, Hold: true, HandOver: true},
		observations: make(chan Observation, 1),
	}
}

// add puts a socket on the machine and returns it for further detail.
func (s *script) add(state netstate.State, pid int, local, remote string) *scriptSocket {
	s.cookie++
	k := scriptSocket{pid: pid, Socket: netstate.Socket{
		Local: netip.MustParseAddrPort(local), Family: netstate.INET, State: state,
		Cookie: s.cookie, V6Only: netstate.No, ReuseAddr: netstate.Yes, ReusePort: netstate.No, FlagsFrom: netstate.FlagsGetsockopt,
	}}
	if k.Local.Addr().Is6() {
		k.Family = netstate.INET6
	}
	if remote != "" {
		k.Remote = netip.MustParseAddrPort(remote)
	}
	if pid != 0 {
		k.Inode = 70000 + s.cookie
		k.UIDKnown = true
		k.UID = uint32(s.procs[pid].UID)
	}
	s.sockets = append(s.sockets, k)
	return &s.sockets[len(s.sockets)-1]
}

// linger adds a TIME-WAIT socket that has left of its 60 s.
func (s *script) linger(local, remote string, left time.Duration) *scriptSocket {
	k := s.add(netstate.TimeWait, 0, local, remote)
	k.until = s.now.Add(left)
	return k
}

// observe is the machine at a time.
func (s *script) observe(at time.Time) Observation {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.readErr != nil {
		return Observation{At: at, Err: s.readErr}
	}
	owners := s.owners()
	obs := Observation{At: at, Table: s.table(at, netns.Namespace{}, owners), Owners: owners}
	for _, ns := range s.spaces {
		if s.reach.shows(ns) {
			obs.Others = append(obs.Others, s.table(at, ns, owners))
		}
	}
	if s.reach.All {
		obs.Note = s.note
	}
	return obs
}

func (s *script) table(at time.Time, ns netns.Namespace, owners *netstate.Owners) Table {
	t := Table{Snapshot: s.snapshot(at, ns), Verdicts: map[uint16]netstate.Verdict{}}
	for port := range t.Snapshot.Ports() {
		t.Verdicts[port] = netstate.Explain(s.Spec(ns, port), nil, t.Snapshot, owners)
	}
	if s.focus != nil && s.focus.NetNS.ID == ns.ID {
		t.Verdicts[s.focus.Port] = s.ask(*s.focus, t.Snapshot, owners)
	}
	return t
}

// owners knows the holders of all sockets, whether they exist or not.
func (s *script) owners() *netstate.Owners {
	owners := netstate.NewOwners()
	owners.Hidden = s.hidden
	for _, k := range s.sockets {
		if h, ok := s.procs[k.pid]; ok {
			h.FD = 19
			owners.Add(k.Inode, h)
		}
	}
	return owners
}

func (s *script) snapshot(at time.Time, ns netns.Namespace) *netstate.Snapshot {
	var sockets []netstate.Socket
	for _, k := range s.sockets {
		if k.netns != ns.ID || at.Before(k.from) || !k.until.IsZero() && !at.Before(k.until) {
			continue
		}
		if k.State == netstate.TimeWait {
			k.Timer, k.Expires = netstate.TimerTimeWait, k.until.Sub(at)
		}
		sockets = append(sockets, k.Socket)
	}
	snap := netstate.NewSnapshot(at, sockets, s.caps)
	snap.NetNS = ns
	return snap
}

// ask is a real bind on this machine: the kernel here follows the rules.
func (s *script) ask(spec netstate.BindSpec, snap *netstate.Snapshot, owners *netstate.Owners) netstate.Verdict {
	v := netstate.Explain(spec, nil, snap, owners)
	v.Evidence, v.Unsure = netstate.EvidenceBind, false
	return v
}

func (s *script) why(spec netstate.BindSpec, at time.Time) netstate.Verdict {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ask(spec, s.snapshot(at, spec.NetNS), s.owners())
}

func (s *script) Observations() <-chan Observation { return s.observations }
func (s *script) Refresh()                         {}
func (s *script) Gateway() GatewayInfo             { return s.info }

func (s *script) Spec(ns netns.Namespace, port uint16) netstate.BindSpec {
	b := s.info.Spec
	b.NetNS, b.Port = ns, port
	return b
}

func (s *script) Look(reach Reach) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reach = reach
}

func (s *script) Focus(spec *netstate.BindSpec) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.focus = spec
}

func (s *script) time() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.clock != nil {
		return s.clock()
	}
	return s.now
}

func (s *script) Plan(_ context.Context, req PlanRequest) (Held, error) {
	plan, err := s.plan(req)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.holds++
	return &scriptHeld{s: s, plan: plan}, nil
}

// scriptHeld is a plan of the script. Closing it more than once is a fault.
type scriptHeld struct {
	s      *script
	plan   reclaim.Plan
	closed bool
}

func (h *scriptHeld) Plan() reclaim.Plan          { return h.plan }
func (h *scriptHeld) Support() bindnotify.Support { return h.s.support }

func (h *scriptHeld) Run(ctx context.Context, on func(reclaim.Event)) error {
	return h.s.reclaim(ctx, h.plan, on)
}

func (h *scriptHeld) Close() {
	h.s.mu.Lock()
	defer h.s.mu.Unlock()
	if h.closed {
		panic("a plan was let go of twice")
	}
	h.closed = true
	h.s.holds--
}

func (s *script) plan(req PlanRequest) (reclaim.Plan, error) {
	v := s.why(req.Spec, s.time())
	s.mu.Lock()
	defer s.mu.Unlock()
	s.plans = append(s.plans, req)
	policy := reclaim.DefaultPolicy()
	policy.Destroy = req.Destroy
	if req.Restart || req.HandOver {
		policy.Own = s.info.Command
	}
	policy.Ends = req.HandOver
	if req.Only != 0 {
		for i := range v.Blockers {
			b := &v.Blockers[i]
			b.Holders = slices.DeleteFunc(slices.Clone(b.Holders), func(h netstate.Holder) bool { return h.ID.PID != req.Only })
		}
		v.Blockers = slices.DeleteFunc(slices.Clone(v.Blockers), func(b netstate.Blocker) bool { return b.Socket.Owned() && len(b.Holders) == 0 })
	}
	plan := reclaim.NewPlan(v, policy, reclaim.Self{PID: 4000, UID: 1000, Destroy: s.caps.Destroy})
	if req.HandOver {
		plan = gatewaylaunch.StopOnly(plan)
	}
	return plan, nil
}

// errInUse stands for the error of a bind, whose number is the system's.
var errInUse = errors.New("address already in use")

// until waits for a time of the script and reports whether to go on.
func (s *script) until(ctx context.Context, at time.Time) error {
	if s.sleep != nil {
		return s.sleep(ctx, at)
	}
	return ctx.Err()
}

// reclaim carries out a plan on the machine: each event has the time at which
// it happens, which is later than now if it is yet to come.
func (s *script) reclaim(ctx context.Context, plan reclaim.Plan, on func(reclaim.Event)) error {
	at := s.time().Add(10 * time.Millisecond)
	step := 0
	emit := func(e reclaim.Event) error {
		if err := s.until(ctx, at); err != nil {
			return err
		}
		e.At, e.Step = at, step
		on(e)
		return ctx.Err()
	}
	cancelled := func(err error) error {
		on(reclaim.Event{At: s.time(), Kind: reclaim.EventCancelled, Step: step, Err: err})
		return err
	}
	for i, st := range plan.Steps {
		step = i
		switch st.Kind {
		case reclaim.StepTerm:
			if err := emit(reclaim.Event{Kind: reclaim.EventSignal, Holder: st.Holder, Signal: "SIGTERM"}); err != nil {
				return cancelled(err)
			}
			s.terminate(st.Holder.ID.PID, at)
			at = at.Add(s.exitAfter)
			if err := emit(reclaim.Event{Kind: reclaim.EventExit, Holder: st.Holder, Took: s.exitAfter}); err != nil {
				return cancelled(err)
			}
		case reclaim.StepDestroy:
			n := s.destroy(placeOf(plan.Spec), at)
			if err := emit(reclaim.Event{Kind: reclaim.EventDestroyed, Count: n}); err != nil {
				return cancelled(err)
			}
		case reclaim.StepWait:
			begin := at
			for {
				at = at.Add(time.Millisecond)
				v := s.why(plan.Spec, at)
				e := reclaim.Event{Kind: reclaim.EventProbe, Probe: netstate.Probe{Spec: plan.Spec, At: at}, Deadline: begin.Add(st.AtMost)}
				if !v.Bindable {
					e.Probe.Err, e.Verdict = errInUse, &v
				}
				if err := emit(e); err != nil {
					return cancelled(err)
				}
				if v.Bindable {
					return emit(reclaim.Event{Kind: reclaim.EventBindable, Took: at.Sub(begin)})
				}
				if at.Sub(begin) >= st.AtMost {
					err := &reclaim.WaitError{Verdict: v, Waited: at.Sub(begin), Err: reclaim.ErrTimeout}
					if err := emit(reclaim.Event{Kind: reclaim.EventTimeout, Took: at.Sub(begin), Verdict: &v}); err != nil {
						return cancelled(err)
					}
					return err
				}
				at = at.Add(plan.Policy.Interval)
				if end := v.Clears.From; v.Clears.Known() && end.Before(at) && end.After(e.At) {
					at = end
				}
			}
		}
	}
	return nil
}

// terminate is what SIGTERM does here: the process closes its listener, then
// its connections, whose TIME-WAIT therefore stays on this side, and ends.
func (s *script) terminate(pid int, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	closed := at.Add(s.closeAfter)
	for i := range s.sockets {
		k := &s.sockets[i]
		if k.pid != pid || !k.until.IsZero() {
			continue
		}
		k.until = closed
		if k.State == netstate.Established {
			s.cookie++
			w := *k
			w.pid, w.Inode, w.UIDKnown, w.State, w.Cookie = 0, 0, false, netstate.TimeWait, s.cookie
			w.from, w.until = closed, closed.Add(60*time.Second)
			s.sockets = append(s.sockets, w)
		}
	}
	s.ends[pid] = at.Add(s.exitAfter)
}

func (s *script) destroy(where place, at time.Time) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for i := range s.sockets {
		if k := &s.sockets[i]; k.netns == where.netns.ID && k.Local.Port() == where.port && k.State == netstate.TimeWait && k.until.After(at) {
			k.until = at
			n++
		}
	}
	return n
}

// StartGateway starts the gateway on the machine and stays until it has been
// terminated.
func (s *script) StartGateway(ctx context.Context, on func(gatewaylaunch.RestartEvent)) error {
	at := s.time()
	s.mu.Lock()
	s.launches++
	s.mu.Unlock()
	of := s.info.Retries + 1
	n := 1
	emit := func(e gatewaylaunch.Event) error {
		if err := s.until(ctx, at); err != nil {
			return err
		}
		e.At, e.Attempt, e.Of = at, n, of
		on(gatewaylaunch.RestartEvent{At: at, Kind: gatewaylaunch.RestartLaunch, Launch: &e})
		return ctx.Err()
	}
	out := func(stream gatewaylaunch.Stream, line string) error {
		return emit(gatewaylaunch.Event{Kind: gatewaylaunch.EventOutput, Stream: stream, Line: line})
	}
	// await is the launcher's wait for the port, at most for what is left of
	// the time to wait.
	left := time.Duration(s.info.Retries) * s.info.Interval
	await := func() error {
		const step = 10 * time.Millisecond
		for ; left > 0 && !s.why(s.info.Spec, at).Bindable; left -= step {
			at = at.Add(step)
			if err := s.until(ctx, at); err != nil {
				return err
			}
		}
		return nil
	}
	if v := s.why(s.info.Spec, at); !v.Bindable && left > 0 {
		if err := errors.Join(emit(gatewaylaunch.Event{Kind: gatewaylaunch.EventHeld, Verdict: &v, Wait: left}), await()); err != nil {
			return err
		}
	}
	for ; ; n++ {
		s.mu.Lock()
		pid := s.nextPID
		s.nextPID++
		s.mu.Unlock()
		begin := at
		err := errors.Join(
			emit(gatewaylaunch.Event{Kind: gatewaylaunch.EventAttempt}),
			emit(gatewaylaunch.Event{Kind: gatewaylaunch.EventStarted, PID: pid}))
		at = at.Add(s.boot)
		v := s.why(s.info.Spec, at)
		if v.Bindable {
			err = errors.Join(err, out(gatewaylaunch.Stdout, fmt.Sprintf("[gateway] listening on ws://%s", s.info.Spec)))
			s.serve(pid, at)
			at = at.Add(20 * time.Millisecond)
			err = errors.Join(err, emit(gatewaylaunch.Event{Kind: gatewaylaunch.EventReady, PID: pid, Took: at.Sub(begin)}))
			if err == nil {
				return s.stay(ctx, pid, begin, emit, &at)
			}
			return err
		}
		err = errors.Join(err,
			out(gatewaylaunch.Stderr, fmt.Sprintf("Error: listen EADDRINUSE: address already in use %s", s.info.Spec)),
			emit(gatewaylaunch.Event{Kind: gatewaylaunch.EventExited, Exit: gatewaylaunch.ExitStatus{Code: 1}, Took: at.Sub(begin)}),
			emit(gatewaylaunch.Event{Kind: gatewaylaunch.EventInUse, Verdict: &v}))
		if err != nil {
			return err
		}
		if n == of || left <= 0 {
			err := errors.New("the port is still taken: " + v.Summary)
			return errors.Join(emit(gatewaylaunch.Event{Kind: gatewaylaunch.EventFailed, Err: err}), err)
		}
		if err := errors.Join(emit(gatewaylaunch.Event{Kind: gatewaylaunch.EventRetry, Wait: left}), await()); err != nil {
			return err
		}
	}
}

// serve puts the gateway's listener and a few clients on the machine.
func (s *script) serve(pid int, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gatewayPID = pid
	h := s.procs[0]
	h.ID = netstate.ProcessID{PID: pid, Start: uint64(pid)}
	h.Name, h.Cmdline, h.User, h.UID, h.Cwd, h.Started = "node", s.info.Command, "ada", 1000, s.info.Dir, at.Add(-s.boot)
	h.Parents = []netstate.Parent{{PID: 4000, Name: "berth"}, {PID: 3999, Name: "bash"}}
	s.procs = maps.Clone(s.procs)
	s.procs[pid] = h
	s.add(netstate.Listen, pid, s.info.Spec.String(), "").from = at
	for i := range 3 {
		remote := netip.AddrPortFrom(s.info.Spec.Addr, uint16(59010+2*i)).String()
		s.add(netstate.Established, pid, s.info.Spec.String(), remote).from = at.Add(time.Duration(300+250*i) * time.Millisecond)
	}
}

// stay waits until the gateway has ended. Without a clock of its own it asks
// its driver again and again: an event without a kind says "nothing yet".
func (s *script) stay(ctx context.Context, pid int, begin time.Time, emit func(gatewaylaunch.Event) error, at *time.Time) error {
	for {
		s.mu.Lock()
		end, ended := s.ends[pid]
		asked := s.stops > 0
		s.mu.Unlock()
		if ended {
			*at = end
			err := emit(gatewaylaunch.Event{Kind: gatewaylaunch.EventExited, Took: end.Sub(begin)})
			if asked {
				err = errors.Join(err, emit(gatewaylaunch.Event{Kind: gatewaylaunch.EventStopped}))
			}
			return err
		}
		*at = s.time()
		if s.sleep != nil {
			*at = at.Add(10 * time.Millisecond)
			if err := s.sleep(ctx, *at); err != nil {
				s.terminate(pid, s.time())
				return err
			}
			continue
		}
		if err := emit(gatewaylaunch.Event{}); err != nil {
			return err
		}
	}
}

func (s *script) StopGateway(context.Context) error {
	s.mu.Lock()
	s.stops++
	pid := s.gatewayPID
	s.mu.Unlock()
	if pid == 0 {
		return errors.New("no gateway is running")
	}
	s.terminate(pid, s.time())
	return nil
}
