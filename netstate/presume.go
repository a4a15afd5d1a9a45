package netstate

import (
	"net/netip"
	"slices"
)

// What a socket's hidden options probably are: a connection takes its
// listener's when it is made, keeps them into TIME-WAIT, and few programs
// change them later. That is never shown as an option of the socket. It only
// sorts sockets on which an answer hangs into those that probably refuse the
// bind and those that probably do not.

// lineage is what the connections of one server have in common that the table
// shows: the family of its listener, and the address that a client reached.
type lineage struct {
	family Family
	addr   netip.Addr
}

// relatives are the sockets of a port whose options are known and may be those
// of others.
type relatives struct {
	snap *Snapshot
	// parents listen, or did: a listener that was shut down is listed as bound.
	parents  []*Socket
	children map[lineage]*Socket // one connection of each
}

func relativesOf(snap *Snapshot, sockets []Socket) relatives {
	r := relatives{snap: snap, children: map[lineage]*Socket{}}
	for i := range sockets {
		s := &sockets[i]
		if s.ReuseAddr == Unknown || s.ReusePort == Unknown {
			continue
		}
		switch {
		case s.State == Listen || s.State == Bound:
			r.parents = append(r.parents, s)
		case s.Remote.IsValid():
			r.children[lineage{s.Family, s.Local.Addr()}] = s
		}
	}
	return r
}

// of returns the socket from which the connection s probably has its options.
// One that waits to be accepted has a listener with a queue. For any other the
// best witness is a connection that reached the same address. Otherwise it is
// the listener that the kernel would choose: one of its family and device, at
// its address rather than at the wildcard. It is nil if there is none, or if s
// went out from here.
func (r *relatives) of(s *Socket) *Socket {
	if !s.Remote.IsValid() || outbound(s, r.snap) == Yes {
		return nil
	}
	waits := !s.Owned() && !s.Lingering()
	if child := r.children[lineage{s.Family, s.Local.Addr()}]; child != nil && !waits {
		return child
	}
	var found *Socket
	best := 0
	for _, p := range r.parents {
		if p.Family != s.Family || p.Device != 0 && p.Device != s.Device || !covers(p, s.Local.Addr()) {
			continue
		}
		rank := 1
		if !p.Local.Addr().IsUnspecified() {
			rank++
		}
		if p.State == Listen {
			rank += 2
		}
		if waits && p.State == Listen && p.RecvQ > 0 {
			rank += 4
		}
		if rank > best {
			found, best = p, rank
		}
	}
	return found
}

// covers reports whether a listener takes connections to addr.
func covers(listener *Socket, addr netip.Addr) bool {
	at := listener.Local.Addr()
	switch {
	case !at.IsUnspecified():
		return at == addr
	case at.Is4():
		return addr.Is4()
	}
	return addr.Is6() || listener.V6Only != Yes
}

// presumed fills in the options of s that are not known: those of its
// relative, or else what most servers do, which is to set SO_REUSEADDR and
// neither of the others.
func presumed(s, relative *Socket) Socket {
	p := *s
	fill := func(o *Tri, own Tri, usual Tri) {
		if *o != Unknown {
			return
		}
		if *o = usual; own != Unknown {
			*o = own
		}
	}
	if relative == nil {
		relative = &Socket{}
	}
	fill(&p.ReuseAddr, relative.ReuseAddr, Yes)
	fill(&p.ReusePort, relative.ReusePort, No)
	fill(&p.V6Only, relative.V6Only, No)
	return p
}

// suspects says which sockets probably refuse the bind, of those whose hidden
// options decide. oneOf are the groups of which at least one lacks
// SO_REUSEADDR: if no relative says which, it may be any that has none.
//
// A socket whose process can be seen is never suspected: its process could be
// asked to end, and a presumption is not enough for that.
func suspects(spec BindSpec, snap *Snapshot, sockets []Socket, owners *Owners, oneOf [][]int) map[int]bool {
	r := relativesOf(snap, sockets)
	found := map[int]bool{}
	suspect := func(i int, p Socket) {
		if len(owners.Of(&sockets[i])) == 0 && Conflict(spec, &p) == Yes {
			found[i] = true
		}
	}
	for i := range sockets {
		if s := &sockets[i]; Conflict(spec, s) == Unknown {
			suspect(i, presumed(s, r.of(s)))
		}
	}
	for _, group := range oneOf {
		lacks := func(i int) bool {
			p := presumed(&sockets[i], r.of(&sockets[i]))
			return p.ReuseAddr == No
		}
		if slices.ContainsFunc(group, lacks) {
			continue
		}
		orphans := slices.DeleteFunc(slices.Clone(group), func(i int) bool { return r.of(&sockets[i]) != nil })
		if len(orphans) == 0 {
			orphans = group
		}
		for _, i := range orphans {
			p := sockets[i]
			p.ReuseAddr = No
			suspect(i, presumed(&p, r.of(&p)))
		}
	}
	return found
}
