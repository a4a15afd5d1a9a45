package report

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"berth/netstate"
)

// Port is one port of a snapshot, with what the rules say about binding it.
type Port struct {
	Number uint16
	// Snapshot is the one that Sockets are part of.
	Snapshot *netstate.Snapshot
	Sockets  []netstate.Socket
	Verdict  netstate.Verdict
}

// Listing is one snapshot by port: what "list" shows.
type Listing struct {
	// At and Caps are those of this process's own network namespace.
	At    time.Time
	Caps  netstate.Caps
	Ports []Port
	// Owners are those of the listed sockets.
	Owners *netstate.Owners
}

// List is the JSON form of a Listing.
type List struct {
	Schema int           `json:"schema"`
	At     stamp         `json:"at"`
	Caps   netstate.Caps `json:"caps"`
	Ports  []ListPort    `json:"ports"`
}

// ListPort is one port of a List. Bindable and Reason are the rules' answer
// for Bind; no bind was made. Clears is that of the longest TIME-WAIT.
type ListPort struct {
	Proto    string         `json:"proto"`
	NetNS    *string        `json:"netns"`
	Port     uint16         `json:"port"`
	Counts   map[string]int `json:"counts"`
	Bind     Bind           `json:"bind"`
	Bindable *bool          `json:"bindable"`
	Reason   string         `json:"reason"`
	Evidence string         `json:"evidence"`
	Holders  []Holder       `json:"holders"`
	Clears
	Sockets []ListSocket `json:"sockets"`
}

// ListSocket is a socket with the processes that hold it.
type ListSocket struct {
	Socket
	PIDs []int `json:"pids"`
}

// NewList makes the JSON form of l.
func NewList(l *Listing) List {
	j := List{Schema: Schema, At: stamp(l.At), Caps: l.Caps, Ports: []ListPort{}}
	for i := range l.Ports {
		p := &l.Ports[i]
		jp := ListPort{
			Proto: p.Snapshot.Protocol.String(), NetNS: text(p.Snapshot.NetNS.String()), Port: p.Number, Counts: counts(p.Verdict.Counts),
			Bind: newBind(p.Verdict.Spec), Bindable: bindable(&p.Verdict),
			Reason: reason(&p.Verdict), Evidence: string(p.Verdict.Evidence),
			Holders: newHolders(l.Owners.OfAll(p.Sockets)),
			Clears:  newClears(p.longest(), p.Snapshot.At), Sockets: []ListSocket{},
		}
		for k := range p.Sockets {
			s := &p.Sockets[k]
			js := ListSocket{Socket: newSocket(s, p.Snapshot.Clears(s), p.Snapshot.At), PIDs: []int{}}
			for _, h := range l.Owners.Of(s) {
				js.PIDs = append(js.PIDs, h.ID.PID)
			}
			jp.Sockets = append(jp.Sockets, js)
		}
		j.Ports = append(j.Ports, jp)
	}
	return j
}

// List writes a table with a line for each port.
func (t *Text) List(l *Listing) error {
	if len(l.Ports) == 0 {
		t.line("no port is in use that matches")
	} else {
		head := []string{"PORT", "BIND", "LISTEN", "ESTAB", "TIME-WAIT", "LONGEST", "OTHER", "HOLDER"}
		if l.Ports[0].Snapshot.Protocol == netstate.UDP {
			head = []string{"PORT", "BIND", "UNCONN", "ESTAB", "HOLDER"}
		}
		// The namespaces are told apart only where there are several.
		several := slices.ContainsFunc(l.Ports, func(p Port) bool { return !p.Snapshot.NetNS.Own() })
		if several {
			head = slices.Insert(head, 1, "NETNS")
		}
		rows := [][]string{head}
		for i := range l.Ports {
			row := t.row(&l.Ports[i], l)
			if several {
				ns := "-"
				if own := l.Ports[i].Snapshot.NetNS; !own.Own() {
					ns = t.Clean(own.String())
				}
				row = slices.Insert(row, 1, ns)
			}
			rows = append(rows, row)
		}
		for i, line := range table(rows) {
			if i == 0 {
				line = t.bold(line)
			}
			t.line("%s", line)
		}
	}
	t.notes(l)
	return t.err
}

// ListPlain writes one sentence for each port, for screen readers and grep.
func (t *Text) ListPlain(l *Listing) error {
	for i := range l.Ports {
		p := &l.Ports[i]
		s := fmt.Sprintf("%s %s: %s", t.place(p), reasonWord(&p.Verdict), countsText(p.Verdict.Counts))
		if hs := l.Owners.OfAll(p.Sockets); len(hs) > 0 {
			s += ", by " + t.names(hs)
		}
		if c := p.longest(); c.Known() {
			s += ", the longest TIME-WAIT has " + t.left(c, p.Snapshot.At)
		}
		t.line("%s. %s", s, l.At.Local().Format(time.TimeOnly))
	}
	t.notes(l)
	return t.err
}

// place is the port as a sentence names it: "80", "53/udp", "80 in netns blue".
func (t *Text) place(p *Port) string {
	s := strconv.Itoa(int(p.Number))
	if p.Snapshot.Protocol == netstate.UDP {
		s += "/udp"
	}
	if ns := p.Snapshot.NetNS; !ns.Own() {
		s += " in netns " + t.Clean(ns.String())
	}
	return s
}

func (t *Text) notes(l *Listing) {
	for _, n := range l.Caps.Notes {
		t.line("note: %s", t.Clean(n))
	}
}

// reasonWords are the reasons as a cell or the middle of a sentence.
var reasonWords = map[netstate.Reason]string{
	netstate.ReasonFree:      "free",
	netstate.ReasonHeld:      "held",
	netstate.ReasonBound:     "bound, not listening",
	netstate.ReasonInUse:     "in use",
	netstate.ReasonLingering: "TIME-WAIT",
	netstate.ReasonDenied:    "not permitted",
	netstate.ReasonNoAddress: "no such address",
	netstate.ReasonUnknown:   "unknown",
}

func (t *Text) row(p *Port, l *Listing) []string {
	counts := p.Verdict.Counts
	other := 0
	for state, n := range counts {
		if state != netstate.Listen && state != netstate.Established && state != netstate.TimeWait {
			other += n
		}
	}
	long := "-"
	if c := p.longest(); c.Known() {
		long = netstate.Seconds(c.From.Sub(p.Snapshot.At))
	}
	holder := t.names(l.Owners.OfAll(p.Sockets))
	if holder == "" {
		holder = "-"
		if slices.ContainsFunc(p.Sockets, func(s netstate.Socket) bool { return s.Owned() }) {
			holder = "hidden"
		}
	}
	if p.Snapshot.Protocol == netstate.UDP {
		return []string{strconv.Itoa(int(p.Number)), t.verdictWord(&p.Verdict), number(counts[netstate.Unconn]), number(counts[netstate.Established]), holder}
	}
	return []string{
		strconv.Itoa(int(p.Number)), t.verdictWord(&p.Verdict),
		number(counts[netstate.Listen]), number(counts[netstate.Established]), number(counts[netstate.TimeWait]),
		long, number(other), holder,
	}
}

func (t *Text) verdictWord(v *netstate.Verdict) string {
	mark := t.mark("✗", "X")
	switch {
	case v.Bindable:
		mark = t.mark("✓", "ok")
	case v.Reason == netstate.ReasonLingering:
		mark = t.mark("◔", "~")
	}
	return mark + " " + reasonWord(v)
}

func reasonWord(v *netstate.Verdict) string {
	if v.Unsure {
		return "probably free"
	}
	return reasonWords[v.Reason]
}

func number(n int) string {
	if n == 0 {
		return "-"
	}
	return strconv.Itoa(n)
}

// longest is the last end that is known of the TIME-WAIT sockets.
func (p *Port) longest() netstate.Clears {
	var last netstate.Clears
	for i := range p.Sockets {
		if p.Sockets[i].State != netstate.TimeWait {
			continue
		}
		if c := p.Snapshot.Clears(&p.Sockets[i]); c.Until.After(last.Until) {
			last = c
		}
	}
	return last
}
