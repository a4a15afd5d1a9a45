package netstate

import "time"

// Reason is the one-word answer to "why can I not bind?".
type Reason string

// The reasons, ordered from nothing to do to nothing known.
const (
	ReasonFree      Reason = "free"
	ReasonHeld      Reason = "held"       // a LISTEN socket
	ReasonBound     Reason = "bound"      // bound, never listened
	ReasonInUse     Reason = "in-use"     // a live connection uses the port as its local end
	ReasonLingering Reason = "lingering"  // only the kernel holds it: TIME-WAIT, orphans
	ReasonDenied    Reason = "denied"     // EACCES
	ReasonNoAddress Reason = "no-address" // EADDRNOTAVAIL, EINVAL: not an address of this machine
	ReasonUnknown   Reason = "unknown"    // refused, and nothing visible explains it
)

// Evidence says what a verdict rests on.
type Evidence string

// A verdict from a real bind is the kernel's own word; one from the rules is
// what the kernel would say by the table and kernel.md's predicate.
const (
	EvidenceBind  Evidence = "bind"
	EvidenceRules Evidence = "rules"
)

// Blocker is a socket that refuses the bind, with those who hold it.
type Blocker struct {
	Socket  Socket
	Holders []Holder
	// Certain is true if the rules, or the refused bind where nothing else is
	// left, prove that the socket blocks. Otherwise that hangs on options that
	// are hidden, and it is judged by what they probably are: it is one of
	// several of which at least one must block, or a connection whose listener
	// has the options with which it would.
	Certain bool
	// Outbound is Yes if the socket is the client's end of a connection: the
	// port was taken by something that went out, not by a server.
	Outbound Tri
	// Clears says when it stops blocking by itself.
	Clears Clears
}

// Clears is when a socket ends without anybody doing anything. The zero value
// means that it never does or that nobody can tell.
type Clears struct {
	// From and Until bound the instant. The kernel's timer wheel lets a
	// TIME-WAIT socket block for up to seconds beyond its own timer; where the
	// wheel can be read that is known, and the two are the same.
	From, Until time.Time
}

// Known reports whether an end is known.
func (c Clears) Known() bool { return !c.Until.IsZero() }

// CureAction names what would make the bind succeed.
type CureAction string

// The cures that a verdict may propose.
const (
	CureStop      CureAction = "stop"
	CureWait      CureAction = "wait"
	CureDestroy   CureAction = "destroy"
	CureReuseAddr CureAction = "reuseaddr"
	CureHost      CureAction = "host"
	CureReserve   CureAction = "reserve"
	CurePrivilege CureAction = "privilege"
)

// ReclaimWait is how long a reclaim waits for the bind after its last signal,
// unless it is told otherwise. It stands here because a cure that stops a
// holder is one only if nothing else blocks the port for longer.
const ReclaimWait = 3 * time.Second

// Cure is one thing that would make this bind succeed.
type Cure struct {
	Action  CureAction `json:"action"`
	Text    string     `json:"text"`
	Command string     `json:"command,omitempty"`
}

// Cell is one entry of the bind matrix: what the rules say about the same
// port with another address or other options.
type Cell struct {
	Spec     BindSpec
	Bindable Tri
}

// Verdict answers for one BindSpec: whether, why, until when, and what helps.
type Verdict struct {
	At       time.Time
	Spec     BindSpec
	Bindable bool
	// Errno is the kernel's name of the refusal, such as "EADDRINUSE"; empty
	// if bindable. Err is the error itself, for errors.Is.
	Errno    string
	Err      error
	Evidence Evidence
	// Unsure is set if the rules alone could not tell, because the answer
	// hangs on options that are hidden; a verdict from a bind is never unsure.
	Unsure bool
	Reason Reason
	// Summary is the whole answer as one sentence.
	Summary string
	// Blockers are the sockets that refuse the bind, as far as can be told: the
	// certain ones first, then those that probably do. A process that can be
	// seen is behind one that is not certain only if no blocker is. Where
	// Unsure is set they are the sockets on whose options the answer hangs.
	Blockers []Blocker
	// Possible are sockets that may refuse the bind as well, depending on
	// options that are hidden, but probably do not. It matters once the
	// blockers are gone.
	Possible []Blocker
	// Clears is when the last blocker ends by itself; zero if unknown.
	Clears Clears
	Cures  []Cure
	Matrix []Cell
	// Counts of the port's sockets by state, whatever the address. Requests
	// (SYN-RECV) are no sockets yet, and a verdict that was made for a bind does
	// not count them.
	Counts map[State]int
	// Caps says what the evidence could show at all.
	Caps Caps
	// Note says what else is worth knowing, such as a disagreement between
	// the bind and the rules.
	Note string
}

// Holders returns every process that holds a blocker, each once.
func (v *Verdict) Holders() []Holder {
	var all []Holder
	seen := map[int]bool{}
	for i := range v.Blockers {
		for _, h := range v.Blockers[i].Holders {
			if !seen[h.ID.PID] {
				seen[h.ID.PID] = true
				all = append(all, h)
			}
		}
	}
	return all
}
