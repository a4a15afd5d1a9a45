package netstate

import (
	"cmp"
	"iter"
	"slices"
	"sort"
	"time"
)

// Snapshot is the socket table at one moment. It is immutable: readers make a
// new one, so any number of goroutines may keep and read it.
type Snapshot struct {
	At time.Time
	// Scope says whose sockets they are.
	Scope
	// Sockets is sorted by local port, then state (LISTEN first), then remote.
	Sockets []Socket
	Caps    Caps
}

// NewSnapshot sorts sockets and takes them over; the caller must not keep them.
func NewSnapshot(at time.Time, sockets []Socket, caps Caps) *Snapshot {
	slices.SortFunc(sockets, compareSockets)
	return &Snapshot{At: at, Sockets: sockets, Caps: caps}
}

func compareSockets(a, b Socket) int {
	if c := cmp.Compare(a.Local.Port(), b.Local.Port()); c != 0 {
		return c
	}
	if c := cmp.Compare(stateRank[a.State&15], stateRank[b.State&15]); c != 0 {
		return c
	}
	if c := a.Remote.Compare(b.Remote); c != 0 {
		return c
	}
	if c := a.Local.Addr().Compare(b.Local.Addr()); c != 0 {
		return c
	}
	if c := cmp.Compare(a.Family, b.Family); c != 0 {
		return c
	}
	return cmp.Compare(a.Cookie, b.Cookie)
}

// stateRank orders states by how much they matter to somebody who wants the
// port: what a process holds first, what the kernel remembers last.
var stateRank = [16]uint8{
	Listen: 1, Unconn: 1, Bound: 2, Established: 3, SynSent: 4, SynRecv: 5, NewSynRecv: 5,
	CloseWait: 6, FinWait1: 7, FinWait2: 8, Closing: 9, LastAck: 10, TimeWait: 11, Closed: 12,
}

// Port returns the sockets whose local port is port: a part of Sockets, not a
// copy.
func (s *Snapshot) Port(port uint16) []Socket {
	from := sort.Search(len(s.Sockets), func(i int) bool { return s.Sockets[i].Local.Port() >= port })
	to := from + sort.Search(len(s.Sockets)-from, func(i int) bool { return s.Sockets[from+i].Local.Port() > port })
	return s.Sockets[from:to]
}

// Clears says when one of the snapshot's sockets ends by itself.
func (s *Snapshot) Clears(sock *Socket) Clears { return s.Caps.Wheel.Clears(sock, s.At) }

// Ports yields each local port in ascending order with its sockets.
func (s *Snapshot) Ports() iter.Seq2[uint16, []Socket] {
	return func(yield func(uint16, []Socket) bool) {
		for from := 0; from < len(s.Sockets); {
			port := s.Sockets[from].Local.Port()
			to := from + 1
			for to < len(s.Sockets) && s.Sockets[to].Local.Port() == port {
				to++
			}
			if !yield(port, s.Sockets[from:to]) {
				return
			}
			from = to
		}
	}
}

// Serves reports whether a port is one that a server uses or used, as opposed
// to the ephemeral end of an outgoing connection: something listens or is
// bound there, or connections of a server linger there. A lone connection on
// an ephemeral port that is not shared with another is a client's.
func Serves(sockets []Socket) bool {
	if len(sockets) > 1 {
		return true
	}
	for i := range sockets {
		if s := &sockets[i]; s.Serving() {
			return true
		}
	}
	return false
}
