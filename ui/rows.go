package ui

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"

	"berth/netstate"
	"berth/netstate/netns"
)

// portRow is what the overview knows of one port.
type portRow struct {
	place
	sockets []netstate.Socket // a part of the snapshot
	gateway bool

	counts              [16]int // by state
	listen, estab, wait int     // the three that have a column
	owned               bool    // a process has one of the sockets open

	// clears is when the last TIME-WAIT timer of the port ends, zero if there
	// is none or if timers are hidden. Countdowns are clears minus now.
	clears  time.Time
	verdict *netstate.Verdict // nil if nobody judged the port

	// held are the holders, found when the row first comes onto the screen.
	held      []netstate.Holder
	heldKnown bool
}

// find looks the holders up once.
func (r *portRow) find(owners *netstate.Owners) {
	if !r.heldKnown {
		r.held, r.heldKnown = r.holders(owners), true
	}
}

// sortOrder is how the overview is sorted.
type sortOrder uint8

const (
	sortTrouble sortOrder = iota
	sortPort
	sortLeft
	sortHolder
	sortOrders
)

func (s sortOrder) String() string {
	return [...]string{"trouble first", "port", "longest TIME-WAIT", "holder"}[s]
}

// rowsOf makes the rows of the namespaces that are looked at, in no order. The
// gateway's port has one wherever one looks and even if nothing is there, the
// port that the user asked for if its namespace is looked at. With all, the
// ends of outgoing connections are included.
func (m *Model) rowsOf(obs *Observation, all bool) (rows []portRow, total int) {
	gateway, asked := placeOf(m.gateway.info.Spec), m.port.place
	for _, t := range obs.tables() {
		ns := t.Snapshot.NetNS
		home, shown := ns.ID == gateway.netns.ID, m.reach.shows(ns)
		if !home && !shown {
			continue
		}
		wanted := map[uint16]bool{}
		if home {
			wanted[gateway.port] = true
		}
		if shown && asked.port != 0 && asked.netns.ID == ns.ID {
			wanted[asked.port] = true
		}
		for port, sockets := range t.Snapshot.Ports() {
			if !shown && !wanted[port] {
				continue
			}
			total++
			r := m.newRow(t, port, sockets)
			if netstate.Serves(sockets) {
				m.served[r.id()] = true
			}
			if all || wanted[port] || m.served[r.id()] || !t.Snapshot.Caps.Ephemeral(port) && r.refused() {
				rows = append(rows, r)
			}
			wanted[port] = false
		}
		for port, missing := range wanted {
			if missing {
				rows = append(rows, m.newRow(t, port, nil))
				total++
			}
		}
	}
	return rows, total
}

// shows reports whether the ports of a namespace are looked at.
func (r Reach) shows(ns netns.Namespace) bool { return r.All || ns.ID == r.NetNS.ID }

// newRow makes the row of a port of a table.
func (m *Model) newRow(t *Table, port uint16, sockets []netstate.Socket) portRow {
	r := portRow{place: place{t.Snapshot.NetNS, port}, sockets: sockets}
	r.gateway = r.id() == placeOf(m.gateway.info.Spec).id()
	for i := range sockets {
		s := &sockets[i]
		r.counts[s.State&15]++
		r.owned = r.owned || s.Owned()
		if s.State == netstate.TimeWait && s.Timer == netstate.TimerTimeWait {
			if end := t.Snapshot.At.Add(s.Expires); end.After(r.clears) {
				r.clears = end
			}
		}
	}
	r.listen, r.estab, r.wait = r.counts[netstate.Listen], r.counts[netstate.Established], r.counts[netstate.TimeWait]
	if v, ok := t.Verdicts[port]; ok {
		r.verdict = &v
	}
	return r
}

// refused reports whether a bind is known to fail.
func (r *portRow) refused() bool { return r.verdict != nil && !r.verdict.Bindable }

// trouble ranks rows: first what refuses a bind without anybody listening,
// which is what people come here for, then leaking servers, then servers that
// work, then what is free.
func (r *portRow) trouble() int {
	switch {
	case r.refused() && r.verdict.Reason != netstate.ReasonHeld:
		return 1
	case r.counts[netstate.CloseWait] > 0:
		return 2
	case r.listen > 0:
		return 3
	}
	return 4
}

// sortRows orders rows in place, the gateway's first. Ties fall back to the port, so that rows do
// not change places while the numbers in them move.
func sortRows(rows []portRow, order sortOrder, owners *netstate.Owners) {
	names := map[placeID]string{}
	if order == sortHolder {
		for i := range rows {
			names[rows[i].id()] = strings.ToLower(rows[i].holderName(owners))
		}
	}
	slices.SortStableFunc(rows, func(a, b portRow) int {
		if a.gateway != b.gateway {
			return b2i(b.gateway) - b2i(a.gateway)
		}
		var c int
		switch order {
		case sortTrouble:
			c = cmp.Compare(a.trouble(), b.trouble())
		case sortLeft:
			c = b.clears.Compare(a.clears)
		case sortHolder:
			x, y := names[a.id()], names[b.id()]
			if c = cmp.Compare(b2i(x == ""), b2i(y == "")); c == 0 {
				c = strings.Compare(x, y)
			}
		}
		return cmp.Or(c, cmp.Compare(a.port, b.port), strings.Compare(a.netns.Name, b.netns.Name), cmp.Compare(a.netns.ID, b.netns.ID))
	})
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// holders returns the processes on the port, those that listen first.
func (r *portRow) holders(owners *netstate.Owners) []netstate.Holder {
	// A snapshot is sorted by state: listeners and bound sockets first, what
	// only the kernel holds last.
	first := r.counts[netstate.Listen] + r.counts[netstate.Bound]
	last := len(r.sockets) - r.counts[netstate.TimeWait] - r.counts[netstate.Closed]
	hs := owners.OfAll(r.sockets[:first])
	for _, h := range owners.OfAll(r.sockets[first:max(first, last)]) {
		if !slices.ContainsFunc(hs, func(o netstate.Holder) bool { return o.ID.PID == h.ID.PID }) {
			hs = append(hs, h)
		}
	}
	return hs
}

func (r *portRow) holderName(owners *netstate.Owners) string {
	// One socket is enough for a name: a listener comes first, and the
	// holders of ten thousand connections are not walked to sort a list.
	for i := range r.sockets {
		if hs := owners.Of(&r.sockets[i]); len(hs) > 0 {
			return hs[0].Name
		}
		if r.sockets[i].State == netstate.TimeWait {
			break
		}
	}
	return ""
}

// matches reports whether every word of a filter is in one of the things that
// a person would search a port by.
func (r *portRow) matches(words []string, owners *netstate.Owners) bool {
	if len(words) == 0 {
		return true
	}
	var hay strings.Builder
	hay.WriteString(strconv.Itoa(int(r.port)) + " " + strings.ToLower(r.netns.String()))
	for st, n := range r.counts {
		if n > 0 {
			name := strings.ToLower(netstate.State(st).String())
			hay.WriteString(" " + name + " " + strings.ReplaceAll(name, "-", "_"))
		}
	}
	for _, h := range r.holders(owners) {
		hay.WriteString(" " + strings.ToLower(h.Name) + " " + strings.ToLower(h.User) + " " + strconv.Itoa(h.ID.PID) + " " + strings.ToLower(h.Container))
	}
	if r.verdict != nil {
		hay.WriteString(" " + string(r.verdict.Reason))
	}
	for _, w := range words {
		if !strings.Contains(hay.String(), w) {
			return false
		}
	}
	return true
}
