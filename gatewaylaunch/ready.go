package gatewaylaunch

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"berth/netstate"
)

const (
	// The socket table is read at this pace while the gateway is not ready:
	// often at first, since many servers need a few milliseconds, and less
	// often for those that need seconds.
	readyFirst = 10 * time.Millisecond
	readyLast  = 250 * time.Millisecond
	readyLate  = time.Second // after the ready timeout
	// A look may cost a walk over all processes. The pause is at least this
	// many times as long, so that watching takes a tenth of a core at most.
	readyShare = 10
	// queueEvery is how often the accept queue of a ready gateway is looked at,
	// and queueShare keeps that below a hundredth of a core.
	queueEvery = 2 * time.Second
	queueShare = 100
)

// sign is something that watching the gateway from outside has found.
type sign struct {
	kind EventKind // EventListening, EventReady, EventNotReady, EventHung or EventRecovered
	pid  int
	addr string
	err  error
	took time.Duration
}

// listenerID is what a listener is known by from one look to the next.
type listenerID struct {
	inode uint64
	pid   int
}

func idOf(s *netstate.Socket) listenerID { return listenerID{s.Inode, s.PID} }

// listener is a LISTEN socket; pid is a process of the gateway's tree that
// holds it, or 0 if none is known to.
type listener struct {
	netstate.Socket
	pid int
}

// watchState looks at the gateway until ctx ends: first for its listeners,
// then for its health if an address for that is given, and after that for an
// accept queue that grows. The channel is closed when the watching has ended,
// soon after ctx.
func (l *Launcher) watchState(ctx context.Context, p *process) <-chan sign {
	found := make(chan sign)
	w := &watcher{Launcher: l, process: p, start: time.Now(), send: func(s sign) {
		select {
		case found <- s:
		case <-ctx.Done():
		}
	}}
	go func() {
		defer close(found)
		w.run(ctx)
	}()
	return found
}

// watcher is the state of one watching.
type watcher struct {
	*Launcher
	process *process
	start   time.Time
	send    func(sign)

	listening, ready, late bool
	pid                    int
	addr                   string
	own                    map[listenerID]bool // the gateway's listeners
	missing                []netip.AddrPort
	unhealthy              error         // why the last look at its health failed
	asking                 time.Duration // how long that took, which costs this process nothing
	queue                  queue
	queued                 time.Time // when the queue was looked at
}

func (w *watcher) run(ctx context.Context) {
	pace := readyFirst
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		began := time.Now()
		w.asking = 0
		err := w.look(ctx)
		if ctx.Err() != nil {
			return
		}
		took := time.Since(began) - w.asking
		switch {
		case w.ready:
			timer.Reset(max(queueEvery, queueShare*took))
			continue
		case !w.late && time.Since(w.start) >= w.readyTimeout():
			w.late, pace = true, readyLate
			w.send(sign{kind: EventNotReady, pid: w.pid, err: w.notReady(err), took: time.Since(w.start)})
		}
		timer.Reset(max(pace, readyShare*took))
		if !w.late {
			pace = min(pace*3/2, readyLast)
		}
	}
}

// look reads the table once and does what can be done next.
func (w *watcher) look(ctx context.Context) error {
	if w.ready {
		return w.lookAtQueue(ctx)
	}
	if !w.listening {
		ls, err := w.listeners(ctx, w.Spec.Port)
		if err != nil {
			return err
		}
		w.pid, w.addr, w.missing = w.covered(ls)
		if w.pid == 0 || len(w.missing) > 0 {
			return nil
		}
		w.listening, w.own = true, map[listenerID]bool{}
		for _, l := range ls {
			w.own[idOf(&l.Socket)] = l.pid != 0
		}
		kind := EventReady
		if w.Health != nil {
			kind = EventListening
		}
		w.ready = w.Health == nil
		w.send(sign{kind: kind, pid: w.pid, addr: w.addr, took: time.Since(w.start)})
	}
	if w.ready {
		return nil
	}
	if err := w.lookAtQueue(ctx); err != nil {
		return err
	}
	began := time.Now()
	w.unhealthy = w.Health.check(ctx, w.serves)
	w.asking = time.Since(began)
	if w.unhealthy == nil {
		w.ready = true
		w.send(sign{kind: EventReady, pid: w.pid, addr: w.addr, took: time.Since(w.start)})
	}
	return nil
}

// serves reports whether a connection to the address reaches the gateway and
// nobody else.
func (w *watcher) serves(ctx context.Context, to netip.AddrPort) error {
	ls, err := w.listeners(ctx, to.Port())
	if err != nil {
		return err
	}
	return reaches(ls, to)
}

func (w *watcher) lookAtQueue(ctx context.Context) error {
	now := time.Now()
	if now.Sub(w.queued) < queueEvery {
		return nil
	}
	w.queued = now
	snap, err := w.Kernel.Read(ctx)
	if err != nil {
		return err
	}
	waiting := 0
	for _, s := range snap.Port(w.Spec.Port) {
		if s.State == netstate.Listen && w.own[idOf(&s)] {
			waiting += int(s.RecvQ)
		}
	}
	switch w.queue.add(now, waiting) {
	case queueGrew:
		w.send(sign{kind: EventHung, pid: w.pid, addr: w.addr, err: &HungError{Addr: w.addr, Waiting: waiting, Since: w.queue.first, Took: now.Sub(w.queue.since)}})
	case queueShrank:
		w.send(sign{kind: EventRecovered, pid: w.pid, addr: w.addr})
	}
	return nil
}

// listeners reads who listens on a port.
func (w *watcher) listeners(ctx context.Context, port uint16) ([]listener, error) {
	snap, err := w.Kernel.Read(ctx)
	if err != nil {
		return nil, err
	}
	sockets := slices.Clone(snap.Port(port))
	sockets = slices.DeleteFunc(sockets, func(s netstate.Socket) bool { return s.State != netstate.Listen })
	if len(sockets) == 0 {
		return nil, nil
	}
	ls := make([]listener, len(sockets))
	known := true
	for i := range sockets {
		ls[i].Socket = sockets[i]
		if w.own[idOf(&sockets[i])] {
			ls[i].pid = w.pid
		}
		known = known && ls[i].pid != 0
	}
	if known {
		return ls, nil // which saves a walk over all processes
	}
	owners, err := w.Kernel.Owners(ctx, sockets)
	if err != nil {
		return nil, err
	}
	for i := range sockets {
		holders := owners.Of(&sockets[i])
		if own := slices.IndexFunc(holders, w.process.includes); own >= 0 {
			ls[i].pid = holders[own].ID.PID
		} else if port == w.Spec.Port {
			w.process.foreign.Store(true)
		}
	}
	return ls, nil
}

// covered returns the process of the gateway's tree that listens, where, and
// which of the expected addresses nobody of the tree listens on. Somebody
// else's listener on the same port proves nothing. If the host was only guessed,
// any address will do.
func (l *Launcher) covered(ls []listener) (pid int, addr string, missing []netip.AddrPort) {
	for _, a := range l.expected() {
		i := slices.IndexFunc(ls, func(s listener) bool { return s.pid != 0 && covers(&s.Socket, a) })
		if i < 0 {
			missing = append(missing, netip.AddrPortFrom(a, l.Spec.Port))
			continue
		}
		if pid == 0 {
			pid, addr = ls[i].pid, ls[i].Local.String()
		}
	}
	if pid != 0 {
		return pid, addr, missing
	}
	if i := slices.IndexFunc(ls, func(s listener) bool { return s.pid != 0 }); i >= 0 {
		pid, addr = ls[i].pid, ls[i].Local.String()
		if l.GuessedHost {
			missing = nil
		}
	}
	return pid, addr, missing
}

func (l *Launcher) expected() []netip.Addr { return append([]netip.Addr{l.Spec.Addr}, l.Also...) }

// covers reports whether a connection to addr can reach the listener.
func covers(s *netstate.Socket, addr netip.Addr) bool {
	switch at := s.Local.Addr(); {
	case at == addr:
		return true
	case !at.IsUnspecified():
		return false
	case at.Is4():
		return addr.Is4()
	}
	return addr.Is6() || s.V6Only != netstate.Yes
}

// reaches returns nil if a connection to the address certainly reaches the
// gateway: the kernel gives it to the listener of the very address, and only
// without one to that of every address. Listeners that share an address by
// SO_REUSEPORT get it by chance.
func reaches(ls []listener, to netip.AddrPort) error {
	var best []listener
	for _, exact := range []bool{true, false} {
		for _, l := range ls {
			if (l.Local.Addr() == to.Addr()) == exact && covers(&l.Socket, to.Addr()) {
				best = append(best, l)
			}
		}
		if len(best) > 0 {
			break
		}
	}
	switch {
	case len(best) == 0:
		return &identityError{to, "nobody listens on %s"}
	case slices.ContainsFunc(best, func(l listener) bool { return l.pid == 0 }):
		return &identityError{to, "somebody else listens on %s"}
	}
	return nil
}

func (w *watcher) notReady(err error) *NotReadyError {
	e := &NotReadyError{Spec: w.Spec, Waited: time.Since(w.start), Err: err, Listens: w.addr, Missing: w.missing}
	if w.listening && err == nil {
		e.Health, e.Err = w.Health, w.unhealthy
	}
	return e
}

// queueChange is what a look at the accept queue tells.
type queueChange uint8

const (
	queueSame queueChange = iota
	queueGrew
	queueShrank
)

// queueLooks is how many looks in a row must find the queue filled and not
// shorter, and longer in the end than at first: a busy server takes something
// from it between two of them.
const queueLooks = 3

// queue judges the length of an accept queue over time.
type queue struct {
	looks, last int
	first       int       // length when it began to grow
	since       time.Time // and when
	hung        bool
}

func (q *queue) add(now time.Time, waiting int) queueChange {
	if waiting == 0 || waiting < q.last {
		was := q.hung
		*q = queue{last: waiting}
		if waiting > 0 {
			q.looks, q.first, q.since = 1, waiting, now
		}
		if was {
			return queueShrank
		}
		return queueSame
	}
	if q.looks == 0 {
		q.first, q.since = waiting, now
	}
	q.looks++
	q.last = waiting
	if !q.hung && q.looks >= queueLooks && waiting > q.first {
		q.hung = true
		return queueGrew
	}
	return queueSame
}
