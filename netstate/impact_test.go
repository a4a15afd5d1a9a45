package netstate

import (
	"net/netip"
	"slices"
	"testing"
	"time"
)

func established(local, remote string) Socket {
	return Socket{State: Established, Local: netip.MustParseAddrPort(local), Remote: netip.MustParseAddrPort(remote)}
}

func TestClientsOf(t *testing.T) {
	sockets := []Socket{
		{State: Listen, Local: netip.MustParseAddrPort("0.0.0.0:80")},
		established("127.0.0.1:80", "127.0.0.1:5000"),
		established("127.0.0.1:5000", "127.0.0.1:80"),
		established("10.0.0.1:80", "10.0.0.7:5000"), // no other end here
		established("10.0.0.7:5000", "10.0.0.1:81"), // not that one: another port
		established("[::1]:80", "[::1]:80"),         // connected to itself
		{State: TimeWait, Local: netip.MustParseAddrPort("127.0.0.1:80"), Remote: netip.MustParseAddrPort("127.0.0.1:5001")},
		{State: CloseWait, Local: netip.MustParseAddrPort("127.0.0.1:80"), Remote: netip.MustParseAddrPort("127.0.0.1:5002")},
	}
	clients, ends := clientsOf(NewSnapshot(time.Now(), slices.Clone(sockets), Caps{}), 80)
	if !clients.Known || clients.Count != 3 || len(ends) != 2 {
		t.Fatalf("%+v, ends %v, want 3 clients, 2 of them here", clients, ends)
	}
	for i, c := range clients.First {
		end, here := ends[i]
		if here != (c.Here == Yes) || here && (end.Local != c.Remote || end.Remote.Port() != 80) {
			t.Errorf("client %v (here: %v) has the other end %v", c.Remote, c.Here, end)
		}
	}
	udp := NewSnapshot(time.Now(), slices.Clone(sockets), Caps{})
	udp.Protocol = UDP
	if clients, _ := clientsOf(udp, 80); !clients.Known || clients.Count != 0 {
		t.Errorf("UDP: %+v, want to know of none", clients)
	}
}

func TestClientsAreBounded(t *testing.T) {
	var sockets []Socket
	for i := range 3 * maxClients {
		client := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(10000+i)).String()
		sockets = append(sockets, established("127.0.0.1:80", client), established(client, "127.0.0.1:80"))
	}
	clients, ends := clientsOf(NewSnapshot(time.Now(), sockets, Caps{}), 80)
	if clients.Count != 3*maxClients || len(clients.First) != maxClients || len(ends) != maxClients {
		t.Errorf("count %d, listed %d, ends %d", clients.Count, len(clients.First), len(ends))
	}
}

func kin(pids ...int) Sample[Kin] {
	s := Sample[Kin]{Known: true}
	for _, pid := range pids {
		s.add(Kin{PID: pid, Name: "p"}, maxKin)
	}
	return s
}

func sameKin(a, b Sample[Kin]) bool {
	return a.Known == b.Known && a.Count == b.Count && a.AtLeast == b.AtLeast && slices.Equal(a.First, b.First)
}

// TestRelations: a master 10 with a worker 11 that shares its port, and below
// the worker and beside it others that do not.
func TestRelations(t *testing.T) {
	entry := func(parent, group int) tableEntry {
		return tableEntry{name: "p", parent: parent, group: group, session: 7, start: 5}
	}
	table := &processTable{complete: true, processes: map[int]tableEntry{
		1: entry(0, 1), 7: entry(1, 7), 10: entry(7, 10), 11: entry(10, 10), 12: entry(11, 12),
		13: entry(10, 10), 14: entry(13, 10), 15: {name: "p", parent: 10, group: 10, start: 5, zombie: true},
		20: entry(21, 20), 21: entry(20, 20), // a loop, as of a table that changed
	}}
	holder := func(pid int, start uint64) Holder { return Holder{ID: ProcessID{PID: pid, Start: start}} }
	got := relations(table, []Holder{holder(10, 5), holder(11, 5), holder(20, 5), holder(13, 6), holder(99, 5)})
	for i, want := range []struct{ children, group Sample[Kin] }{
		{kin(13, 14), kin(13, 14)}, // the holder 13 is gone, and another has its number
		{kin(12), kin(13, 14)},
		{kin(21), kin(21)},
		{}, {}, // another program by now, and gone
	} {
		if h := got[i]; !sameKin(h.Children, want.children) || !sameKin(h.Group, want.group) {
			t.Errorf("%d: children %+v, group %+v, want %+v", h.ID.PID, h.Children, h.Group, want)
		}
	}
	if got[0].GroupID != 10 || got[0].Session != 7 || got[3].GroupID != 0 {
		t.Errorf("group %d, session %d; of another program %d", got[0].GroupID, got[0].Session, got[3].GroupID)
	}

	// Where processes are hidden, none that is seen is not none.
	table.complete = false
	got = relations(table, []Holder{holder(12, 5), holder(11, 5)})
	if got[0].Children.Known || !got[1].Children.AtLeast || got[1].Children.Known == (got[1].Children.Count == 0) {
		t.Errorf("hidden: %+v and %+v", got[0].Children, got[1].Children)
	}
	// Where groups are not told, nothing is said of them.
	for pid, e := range table.processes {
		e.group = 0
		table.processes[pid] = e
	}
	if got = relations(table, []Holder{holder(10, 5)}); got[0].Group.Known {
		t.Errorf("without groups: %+v", got[0].Group)
	}
}
