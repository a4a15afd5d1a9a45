package netstate

import (
	"cmp"
	"context"
	"maps"
	"net/netip"
	"slices"
)

// Impact is what the end of a port's holders would do to others: the blast
// radius that a person should see before confirming it.
type Impact struct {
	// Holders are in the order in which they were asked for.
	Holders []HolderImpact
	// Clients have a connection to the port.
	Clients Sample[Client]
}

// HolderImpact is what one process would leave, lose or take along.
type HolderImpact struct {
	ID ProcessID
	// Children descend from the process without holding the port, and from no
	// other holder more closely. Its end does not end them.
	Children Sample[Kin]
	// Group are the other members of its process group, which a terminal's
	// Ctrl-C ends together. GroupID is 0 if it is not known, like Session, the
	// number of its session.
	Group            Sample[Kin]
	GroupID, Session int
	// Writing are the regular files that it has open for writing.
	Writing Sample[string]
}

// Sample is the first few of many.
type Sample[T any] struct {
	// Known: they could be read. Otherwise nothing is said, which is not the
	// same as none.
	Known bool
	First []T
	// Count is how many there are, First included; if AtLeast, it is how many
	// were found before the search became too long.
	Count   int
	AtLeast bool
}

// add counts one, and keeps it if it is among the first limit.
func (s *Sample[T]) add(v T, limit int) {
	if s.Count++; len(s.First) < limit {
		s.First = append(s.First, v)
	}
}

// Kin is a process as far as its relation to another matters. Its name is
// another process's text.
type Kin struct {
	PID  int
	Name string
}

// Client is one connection to the port.
type Client struct {
	Remote netip.AddrPort
	// Here is Yes if its other end is a socket of the same network namespace.
	// It is Unknown otherwise: an address does not tell a container on this
	// machine from another machine.
	Here Tri
	// Holders have the other end open; empty if that is elsewhere or may not
	// be seen.
	Holders []Holder
}

// The bounds of what is listed. A person reads fewer, and counts go on.
const (
	maxClients = 256
	maxKin     = 16
	maxFiles   = 16
)

// Impact tells what would be lost with the holders of a port. It makes one
// walk over the process table and, if a client is on this machine, one over
// the descriptors. What may not be read is not Known; the error is of the
// walks themselves.
func (s *System) Impact(ctx context.Context, snap *Snapshot, port uint16, holders []Holder) (Impact, error) {
	clients, ends := clientsOf(snap, port)
	im := Impact{Clients: clients}
	if len(ends) > 0 {
		owners, err := s.Owners(ctx, slices.Collect(maps.Values(ends)))
		if err != nil {
			return Impact{}, err
		}
		for i, end := range ends {
			im.Clients.First[i].Holders = owners.Of(&end)
		}
	}
	written := make([]Sample[string], len(holders))
	for i := range holders {
		written[i] = filesWritten(holders[i].ID.PID)
		if err := ctx.Err(); err != nil {
			return Impact{}, err
		}
	}
	// The table is read last: if a number went to another process meanwhile,
	// its start time shows it.
	table, err := readProcessTable(ctx)
	if err != nil {
		return Impact{}, err
	}
	im.Holders = relations(table, holders)
	for i := range im.Holders {
		if table.is(holders[i].ID) {
			im.Holders[i].Writing = written[i]
		}
	}
	return im, nil
}

// clientsOf lists the connections to a port, and by their index the sockets at
// their other ends, as far as they are in the same table. A UDP socket with a
// peer is one of the server's own and no client.
func clientsOf(snap *Snapshot, port uint16) (clients Sample[Client], ends map[int]Socket) {
	clients.Known = true
	if snap.Protocol == UDP {
		return clients, nil
	}
	ends = map[int]Socket{}
	sockets := snap.Port(port)
	for i := range sockets {
		s := &sockets[i]
		if s.State != Established || !s.Remote.IsValid() {
			continue
		}
		c := Client{Remote: s.Remote}
		if len(clients.First) < maxClients {
			if end := otherEnd(snap, s); end != nil {
				c.Here = Yes
				ends[len(clients.First)] = *end
			}
		}
		clients.add(c, maxClients)
	}
	return clients, ends
}

// otherEnd finds the socket whose local end is this one's remote, and the
// reverse.
func otherEnd(snap *Snapshot, s *Socket) *Socket {
	at := snap.Port(s.Remote.Port())
	for i := range at {
		if p := &at[i]; p.Local == s.Remote && p.Remote == s.Local {
			return p
		}
	}
	return nil
}

// processTable is every process at one moment, by pid.
type processTable struct {
	processes map[int]tableEntry
	// complete: none is hidden from this user (proc(5), hidepid).
	complete bool
}

// tableEntry is a process's place among the others; group and session are 0
// where the system does not tell.
type tableEntry struct {
	name                   string
	parent, group, session int
	start                  uint64
	zombie                 bool // it has ended, and only its parent does not know yet
}

// is reports whether the process is still the same one.
func (t *processTable) is(id ProcessID) bool {
	e, ok := t.processes[id.PID]
	return ok && e.start == id.Start
}

// relations finds the children and the group of each holder.
func relations(t *processTable, holders []Holder) []HolderImpact {
	isHolder := map[int]bool{}
	for i := range holders {
		isHolder[holders[i].ID.PID] = t.is(holders[i].ID)
	}
	children := map[int][]int{}
	groups := map[int][]int{}
	for pid, e := range t.processes {
		if e.zombie {
			continue
		}
		children[e.parent] = append(children[e.parent], pid)
		if e.group != 0 {
			groups[e.group] = append(groups[e.group], pid)
		}
	}
	out := make([]HolderImpact, len(holders))
	for i := range holders {
		h := &out[i]
		h.ID = holders[i].ID
		if !t.is(h.ID) {
			continue
		}
		self := t.processes[h.ID.PID]
		h.GroupID, h.Session = self.group, self.session
		h.Children = t.sample(t.descendants(h.ID.PID, children, isHolder))
		if self.group != 0 {
			members := slices.DeleteFunc(slices.Clone(groups[self.group]), func(pid int) bool { return isHolder[pid] })
			h.Group = t.sample(members)
		}
	}
	return out
}

// descendants follows the children downwards and stops at other holders, to
// which the rest belongs. A table that changed while it was read may loop.
func (t *processTable) descendants(pid int, children map[int][]int, isHolder map[int]bool) []int {
	var found []int
	seen := map[int]bool{pid: true}
	for next := []int{pid}; len(next) > 0; next = next[1:] {
		for _, child := range children[next[0]] {
			if !seen[child] && !isHolder[child] {
				seen[child] = true
				found = append(found, child)
				next = append(next, child)
			}
		}
	}
	return found
}

// sample names processes, lowest pid first.
func (t *processTable) sample(pids []int) Sample[Kin] {
	slices.SortFunc(pids, cmp.Compare)
	s := Sample[Kin]{Known: t.complete || len(pids) > 0, AtLeast: !t.complete}
	for _, pid := range pids {
		s.add(Kin{PID: pid, Name: t.processes[pid].name}, maxKin)
	}
	return s
}
