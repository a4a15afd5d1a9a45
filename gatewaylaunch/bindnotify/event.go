package bindnotify

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"syscall"
	"time"

	"berth/netstate"
)

// Kind is what an Event tells.
type Kind string

// The kinds of events.
const (
	// KindBind and KindListen say that a call was answered, and how.
	KindBind   Kind = "bind"
	KindListen Kind = "listen"
	// KindHeld says that a bind was refused and waits now. A KindBind follows.
	KindHeld Kind = "held"
)

// How says how a call was answered.
type How string

// The ways of answering.
const (
	// HowMade: the call was made on a duplicate of the program's socket.
	HowMade How = "made"
	// HowPassed: the program made the call itself; its result is not known.
	HowPassed How = "passed"
	// HowGiven: the program has got a kept listening socket instead of its own.
	HowGiven How = "given"
	// HowAbandoned: the wait ended by Tree.Abandon or after its limit, and the
	// program got the refusal.
	HowAbandoned How = "abandoned"
)

// Call is a bind or listen that a program asks for.
type Call struct {
	PID int
	// Program is the kernel's short name of the process. It is another
	// program's text and must be cleaned before it reaches a terminal.
	Program string
	// Addr is the address that was asked for, and in KindListen that of the
	// socket. It is not unmapped: with FamilyINET6 it may be "::ffff:127.0.0.1".
	Addr   netip.AddrPort
	Family netstate.Family
	// The options of the socket when it was bound. They are not known, and
	// Options false, where the socket could not be duplicated.
	Options                      bool
	ReuseAddr, ReusePort, V6Only bool
	// Backlog is what listen was called with.
	Backlog int
}

// Event is one thing that a program of the tree did.
type Event struct {
	At   time.Time
	Kind Kind
	How  How
	Call Call
	// Errno is the call's result, 0 for success. It means nothing if How is
	// HowPassed.
	Errno syscall.Errno
	// Waited is how long the call was held.
	Waited time.Duration
	// Why says, for HowPassed, what kept the call from being made here, and
	// for KindHeld of an address for which sockets are kept, why none was given.
	Why string
}

// Text says in a line what was asked for and what came of it, as in "bind
// 127.0.0.1:80, SO_REUSEADDR: ok (node 4211)". The name of the program in it
// is not cleaned.
func (e *Event) Text() string {
	var b strings.Builder
	kind := e.Kind
	if kind == KindHeld {
		kind = KindBind
	}
	fmt.Fprintf(&b, "%s %s", kind, e.Call.Addr)
	for _, o := range []struct {
		set  bool
		name string
	}{{e.Call.ReuseAddr, "SO_REUSEADDR"}, {e.Call.ReusePort, "SO_REUSEPORT"}, {e.Call.V6Only, "IPV6_V6ONLY"}} {
		if e.Call.Options && o.set && kind == KindBind {
			b.WriteString(", " + o.name)
		}
	}
	if kind == KindListen {
		fmt.Fprintf(&b, ", backlog %d", e.Call.Backlog)
	}
	b.WriteString(": " + e.result())
	fmt.Fprintf(&b, " (%s %d)", e.Call.Program, e.Call.PID)
	return b.String()
}

func (e *Event) result() string {
	text := "ok"
	switch {
	case e.Kind == KindHeld && e.Why != "":
		return "waits, " + e.Why
	case e.Kind == KindHeld:
		return "waits, since it is taken"
	case e.How == HowPassed:
		return "made without being seen, " + e.Why
	case e.How == HowGiven:
		text = "has got the old server's socket"
	case e.Errno != 0:
		text = netstate.ErrnoName(e.Errno)
	}
	if e.Waited > 0 {
		text += fmt.Sprintf(" after it waited %.1f s", e.Waited.Seconds())
	}
	return text
}

// Config says how calls are answered. The zero value only watches.
type Config struct {
	// On is told what happens, one event at a time. It must not wait for the
	// tree, whose calls wait for it.
	On func(Event)
	// Sockets are given to the program when it binds their addresses.
	Sockets *Sockets
	// Hold lets refused binds wait.
	Hold Hold
}

// Hold says which binds wait while their address is taken, and for how long.
type Hold struct {
	// For is the longest wait; 0 means that no bind waits.
	For time.Duration
	// Ports are those whose binds wait, in addition to those of the Sockets.
	Ports []uint16
	// Wake fires, possibly for nothing, when a socket of the port may have
	// ended. It may be nil or return nil: the bind is then tried again by a
	// timer.
	Wake func(ctx context.Context, port uint16) <-chan struct{}
}

// Support says what works here, as tried with a throw-away child.
type Support struct {
	// Watch means that the calls are seen, Hold that they can also be made for
	// the program and wait, HandOver that it can be given another socket.
	Watch, Hold, HandOver bool
	// NoNewPrivs is set if the filter costs set-user-ID programs their rights.
	NoNewPrivs bool
	// Err is why the first mode that does not work does not.
	Err error
}

// Error says what could not be done. It unwraps to the system's error and,
// where this system can never do it, to errors.ErrUnsupported.
type Error struct {
	Op  string
	Err error
	// Why is the reason as a clause, if it is known.
	Why string
}

func (e *Error) Error() string {
	if e.Why == "" {
		return e.Op + ": " + e.Err.Error()
	}
	return e.Op + ": " + e.Why
}

// Unwrap returns Err.
func (e *Error) Unwrap() error { return e.Err }
