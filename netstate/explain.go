package netstate

import (
	"fmt"
	"net/netip"
	"slices"
)

// Explain judges one bind. probe is the experiment and may be nil: the
// verdict then rests on the rules alone. snap is the evidence: the table from
// about the time of the probe, with the options of its sockets filled in where
// they are known. Explain is pure, so that it can be tested on any scene.
//
// Where a probe was made, it decides whether; the rules only say why. If they
// disagree, the verdict follows the probe and Note says so.
func Explain(spec BindSpec, probe *Probe, snap *Snapshot, owners *Owners) Verdict {
	return explain(spec, probe, snap, snap.Port(spec.Port), owners, nil)
}

// explain takes the port's sockets apart from the snapshot, since their
// options may have been filled in after it was taken. oneOf are groups of them,
// as indexes, of which at least one lacks SO_REUSEADDR.
func explain(spec BindSpec, probe *Probe, snap *Snapshot, sockets []Socket, owners *Owners, oneOf [][]int) Verdict {
	v := Verdict{At: snap.At, Spec: spec, Evidence: EvidenceRules, Counts: countStates(sockets), Caps: snap.Caps}
	found := findBlockers(spec, snap, sockets, owners, oneOf)

	if probe == nil {
		v.judgeByRules(found)
	} else {
		v.Evidence = EvidenceBind
		v.judgeByBind(probe, found)
	}
	v.Clears = latest(v.Blockers)
	v.Matrix = matrix(spec, sockets)
	v.Summary = summarize(&v)
	v.Cures = cures(&v, snap, sockets)
	return v
}

func (v *Verdict) judgeByRules(found candidateBlockers) {
	switch {
	case len(found.certain) > 0:
		v.Errno = "EADDRINUSE"
		v.Blockers, v.Possible = slices.Concat(found.certain, found.likely), found.unlikely
		v.Reason = reasonOf(found.certain)
	case len(found.likely)+len(found.unlikely) > 0:
		// Most servers set SO_REUSEADDR, and their remains then block
		// nobody. The table cannot show it, so it is said.
		v.Bindable, v.Unsure, v.Reason = true, true, ReasonFree
		v.Blockers = slices.Concat(found.likely, found.unlikely)
	default:
		v.Bindable, v.Reason = true, ReasonFree
	}
}

func (v *Verdict) judgeByBind(probe *Probe, found candidateBlockers) {
	v.Err, v.Errno = probe.Err, ErrnoName(probe.Err)
	switch probe.Class() {
	case ClassNone:
		v.Bindable, v.Reason = true, ReasonFree
		if len(found.certain) > 0 {
			v.Note = "by the rules " + describe(&found.certain[0].Socket) + " should refuse this bind, yet the kernel allowed it; its answer counts"
		}
	case ClassInUse:
		v.Blockers, v.Possible = slices.Concat(found.certain, found.likely), found.unlikely
		if len(v.Blockers) == 0 {
			// The bind was refused and nothing certain or likely explains it,
			// so what depended on hidden options is the explanation: one of
			// them.
			v.Blockers, v.Possible = found.unlikely, nil
		}
		if len(v.Blockers) == 1 && len(v.Possible) == 0 {
			v.Blockers[0].Certain = true // nothing else is left
		}
		v.Reason = reasonOf(v.Blockers)
	case ClassDenied:
		v.Reason = ReasonDenied
	case ClassNoAddress:
		v.Reason = ReasonNoAddress
	default:
		v.Reason = ReasonUnknown
	}
}

// candidateBlockers are a port's sockets sorted by whether they refuse a bind:
// by the rules, or depending on options that are hidden, which are presumed to
// make them refuse it or not to.
type candidateBlockers struct{ certain, likely, unlikely []Blocker }

func findBlockers(spec BindSpec, snap *Snapshot, sockets []Socket, owners *Owners, oneOf [][]int) (found candidateBlockers) {
	suspected := suspects(spec, snap, sockets, owners, oneOf)
	for i := range sockets {
		s := &sockets[i]
		c := Conflict(spec, s)
		if c == No {
			continue
		}
		b := Blocker{
			Socket:   *s,
			Holders:  owners.Of(s),
			Certain:  c == Yes,
			Outbound: outbound(s, snap),
			Clears:   snap.Clears(s),
		}
		switch {
		case c == Yes:
			found.certain = append(found.certain, b)
		case suspected[i]:
			found.likely = append(found.likely, b)
		default:
			found.unlikely = append(found.unlikely, b)
		}
	}
	return found
}

// outbound says whether a connection went out from this port, so that its
// process is a client that happens to sit on it. Nothing in the kernel's
// table tells the two ends apart; two facts do when they are there: who
// listens on either end, and whether the port is one that the system hands
// out to clients.
func outbound(s *Socket, snap *Snapshot) Tri {
	if !s.Remote.IsValid() {
		if s.State == Unconn && snap.Caps.Ephemeral(s.Local.Port()) {
			return Unknown // a UDP client need not connect
		}
		return No
	}
	if s.State == SynSent {
		return Yes
	}
	if listens(snap, s.Remote) {
		return TriOf(!listens(snap, s.Local))
	}
	if listens(snap, s.Local) {
		return No
	}
	if snap.Caps.EphemeralFrom == 0 {
		return Unknown
	}
	local, remote := snap.Caps.Ephemeral(s.Local.Port()), snap.Caps.Ephemeral(s.Remote.Port())
	switch {
	case local && !remote:
		return Yes
	case remote && !local:
		return No
	}
	return Unknown
}

// listens reports whether the table has a listener that serves addr.
func listens(snap *Snapshot, addr netip.AddrPort) bool {
	sockets := snap.Port(addr.Port())
	for i := range sockets {
		s := &sockets[i]
		if s.State != Listen && s.State != Unconn {
			continue
		}
		if a := s.Local.Addr(); a == addr.Addr() || a.IsUnspecified() && (a.Is6() || addr.Addr().Is4()) {
			return true
		}
	}
	return false
}

// reasonOf names the blocker that decides what helps: a process that holds
// the port comes before what the kernel alone holds.
func reasonOf(bs []Blocker) Reason {
	best := ReasonUnknown
	order := map[Reason]int{ReasonUnknown: 0, ReasonLingering: 1, ReasonInUse: 2, ReasonBound: 3, ReasonHeld: 4}
	for i := range bs {
		if r := reasonFor(&bs[i].Socket); order[r] > order[best] {
			best = r
		}
	}
	return best
}

func reasonFor(s *Socket) Reason {
	switch {
	case s.State == Listen, s.State == Unconn:
		return ReasonHeld
	case s.State == Bound:
		return ReasonBound
	case s.Lingering():
		return ReasonLingering
	}
	return ReasonInUse
}

// matrix says what the rules answer for the same port with other addresses
// and options: the addresses that a server might bind, with the three option
// sets that servers use.
func matrix(spec BindSpec, sockets []Socket) []Cell {
	places := []BindSpec{spec}
	for _, p := range []struct {
		addr   netip.Addr
		v6only bool
	}{
		{netip.AddrFrom4([4]byte{127, 0, 0, 1}), false},
		{netip.IPv4Unspecified(), false},
		{netip.IPv6Loopback(), true},
		{netip.IPv6Unspecified(), false},
		{netip.IPv6Unspecified(), true},
	} {
		b := spec
		b.Addr, b.V6Only, b.Family = p.addr, p.v6only, INET
		if p.addr.Is6() {
			b.Family = INET6
		}
		if b != spec {
			places = append(places, b)
		}
	}
	cells := make([]Cell, 0, 3*len(places))
	for _, b := range places {
		for _, opt := range []struct{ addr, port bool }{{false, false}, {true, false}, {true, true}} {
			b.ReuseAddr, b.ReusePort = opt.addr, opt.port
			cells = append(cells, Cell{Spec: b, Bindable: free(b, sockets)})
		}
	}
	return cells
}

func countStates(sockets []Socket) map[State]int {
	counts := make(map[State]int)
	for i := range sockets {
		counts[sockets[i].State]++
	}
	return counts
}

// describe names a socket: "the LISTEN socket 127.0.0.1:80".
func describe(s *Socket) string {
	if s.Remote.IsValid() {
		return fmt.Sprintf("the %s socket %s → %s", s.State, s.Local, s.Remote)
	}
	return fmt.Sprintf("the %s socket %s", s.State, s.Local)
}
