//go:build amd64 || arm64

package bindnotify

import (
	"context"
	"errors"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// A held bind is tried again when something wakes it, and by a timer in
	// case that was missed; more often where nothing wakes it at all.
	heldSafety = 250 * time.Millisecond
	heldBlind  = 25 * time.Millisecond
)

// answer answers one question and tells what came of it.
func (t *Tree) answer(ctx context.Context, q *notification) {
	c := &call{Tree: t, q: q}
	var a answer
	switch {
	case q.nr == unix.SYS_BIND:
		a = c.bind(ctx)
	case q.nr == unix.SYS_LISTEN:
		a = c.listen()
	default:
		a = passed
	}
	if c.gone {
		c.close()
		return
	}
	// The caller makes its next call when it has the reply, so what came of this
	// one is told before that can be answered.
	t.telling.Lock()
	defer t.telling.Unlock()
	heard := t.notify.reply(q, a)
	if !heard && c.bound {
		t.mu.Lock()
		t.made[c.sock.inode] = c.addr
		t.mu.Unlock()
	}
	c.close()
	if heard && c.event != nil {
		c.event.Errno = a.errno
		t.report(*c.event)
	}
}

// tell reports an event, one at a time.
func (t *Tree) tell(e Event) {
	t.telling.Lock()
	defer t.telling.Unlock()
	t.report(e)
}

// report is tell with the lock held.
func (t *Tree) report(e Event) {
	if t.config.On != nil {
		e.At = time.Now()
		t.config.On(e)
	}
}

// call is one trapped call while it is answered.
type call struct {
	*Tree
	q      *notification
	target *target
	sock   *socket
	addr   address
	// event is told after the answer; nil if the call is none of TCP.
	event *Event
	// gone is set if nobody waits for the answer, and bound if the program's
	// descriptor is bound by now.
	gone, bound bool
}

func (c *call) close() {
	if c.sock != nil {
		c.sock.close()
	}
	if c.target != nil {
		c.target.close()
	}
}

// open finds out who calls.
func (c *call) open() bool {
	var err error
	c.target, err = openTarget(c.notify, c.q)
	c.gone = errors.Is(err, errGone)
	return err == nil
}

// duplicate gets the socket. It returns false if the call cannot be made here
// or is none of TCP.
func (c *call) duplicate() bool {
	var err error
	if c.sock, err = c.target.socket(c.q); err != nil {
		if c.event != nil {
			c.event.Why = err.Error()
			if why := whyNoGetfd(err); why != "" {
				c.event.Why = why
			}
		}
		return false
	}
	if !c.notify.valid(c.q) {
		c.gone = true
		return false
	}
	if !c.sock.stream() {
		c.event = nil
		return false
	}
	e := &c.event.Call
	e.Family, e.Options = c.sock.family(), true
	e.ReuseAddr = c.sock.is(unix.SOL_SOCKET, unix.SO_REUSEADDR)
	e.ReusePort = c.sock.is(unix.SOL_SOCKET, unix.SO_REUSEPORT)
	e.V6Only = c.sock.v6Only()
	return true
}

// bind answers a bind.
func (c *call) bind(ctx context.Context) answer {
	if !c.open() {
		return passed
	}
	var err error
	if c.addr, err = c.target.readAddress(c.q); errors.Is(err, errFamily) {
		return passed
	}
	c.event = &Event{Kind: KindBind, How: HowPassed, Call: Call{PID: c.target.pid, Program: c.target.program, Addr: c.addr.addrPort(), Family: c.addr.family}}
	if err != nil {
		c.event.Why = err.Error()
		return passed
	}
	if !c.duplicate() {
		return passed
	}
	if c.interrupted() {
		c.event.How, c.bound = HowMade, true
		return answer{}
	}
	asked := c.sock.key(c.addr)
	may := c.target.mayBind(c.sock, c.addr.port)
	why := ""
	if c.config.Sockets.serves(c.addr.port) {
		given, reason := c.give(asked, may)
		if given || c.gone {
			return answer{}
		}
		why = reason
	}
	if !may {
		c.event.Why = "the program may not bind a port below 1024"
		return passed
	}
	c.event.How = HowMade
	errno := c.sock.bind(c.addr)
	if errno == unix.EADDRINUSE && c.held() {
		errno = c.hold(ctx, asked, why)
	}
	switch {
	case errno == 0:
		c.bound = true
	case errno == unix.EACCES || errno == unix.EPERM:
		// The program may have a right that this process lacks.
		c.event.How = HowPassed
		return passed
	}
	return answer{errno: errno}
}

// interrupted recognises a call that is made once more because a signal came
// in between the first one and its answer.
func (c *call) interrupted() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	made, ok := c.made[c.sock.inode]
	delete(c.made, c.sock.inode)
	return ok && made.addrPort() == c.addr.addrPort() && c.sock.boundTo(c.addr)
}

// give replaces the program's descriptor by a kept socket. A program that may
// not bind the port itself gets one only if the same user has made it.
func (c *call) give(asked key, may bool) (given bool, why string) {
	fd := int(int32(c.q.args[0]))
	if c.target.watches(fd) {
		return false, "the program waits for events of its own socket already"
	}
	cloexec := c.target.closesOnExec(fd)
	found, err := c.config.Sockets.give(asked, c.event.Call.ReusePort, c.sock.uid, may, func(s *socket) error {
		// Before it is given, so that the program never sees it otherwise.
		s.carry(c.sock)
		return c.notify.give(c.q, s.fd, fd, cloexec)
	})
	switch {
	case errors.Is(err, unix.ENOENT):
		c.gone = true
		return false, ""
	case err != nil:
		return false, "the kernel did not replace the descriptor: " + err.Error()
	case !found:
		return false, "no socket is kept for exactly this address"
	}
	c.event.How, c.bound = HowGiven, true
	// What the program has from now on is the kept socket.
	if s, err := c.target.socket(c.q); err == nil {
		c.sock.close()
		c.sock = s
	}
	return true, ""
}

// held reports whether the bind waits while its address is taken.
func (c *call) held() bool {
	h := c.config.Hold
	return h.For > 0 && (slices.Contains(h.Ports, c.addr.port) || c.config.Sockets.serves(c.addr.port))
}

// hold makes the refused bind again until it succeeds or fails otherwise.
func (c *call) hold(ctx context.Context, asked key, why string) unix.Errno {
	since := time.Now()
	defer func() { c.event.Waited = time.Since(since) }()
	holding, cancel := context.WithTimeout(ctx, c.config.Hold.For)
	defer cancel()
	var wake <-chan struct{}
	if c.config.Hold.Wake != nil {
		wake = c.config.Hold.Wake(holding, c.addr.port)
	}
	pace := heldSafety
	if wake == nil {
		pace = heldBlind
	}
	told := *c.event
	told.Kind, told.Why, told.Errno = KindHeld, why, unix.EADDRINUSE
	c.tell(told)
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for {
		// What is kept here and of no use to this bind is in its way.
		c.config.Sockets.release(asked)
		if errno := c.sock.bind(c.addr); errno != unix.EADDRINUSE {
			return errno
		}
		select {
		case <-wake:
		case <-tick.C:
		case <-c.abandoned:
			c.event.How = HowAbandoned
			return unix.EADDRINUSE
		case <-holding.Done():
			c.event.How = HowAbandoned
			return unix.EADDRINUSE
		}
		if !c.notify.valid(c.q) {
			c.gone = true
			return unix.EADDRINUSE
		}
	}
}

// listen answers a listen. It makes the call in any case: who listens needs no
// right, and that it has returned means that clients can connect.
func (c *call) listen() answer {
	if !c.open() {
		return passed
	}
	c.event = &Event{Kind: KindListen, How: HowPassed, Call: Call{PID: c.target.pid, Program: c.target.program, Backlog: int(int32(c.q.args[1]))}}
	if !c.duplicate() {
		if c.event != nil && c.sock == nil {
			c.event = nil // it may be no socket of TCP at all
		}
		return passed
	}
	backlog := c.event.Call.Backlog
	c.event.How = HowMade
	kept, errno := c.config.Sockets.use(c.sock.inode, backlog)
	if !kept {
		errno = c.sock.listen(backlog)
	}
	c.event.Call.Addr = c.sock.local().addrPort()
	return answer{errno: errno}
}
