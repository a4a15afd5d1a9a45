package ui

import (
	"fmt"
	"slices"
	"time"

	"berth/netstate"
	"berth/ui/draw"
)

// timeWaitScale is the length of a full countdown bar: TIME-WAIT lasts 60 s
// on Linux, whatever tcp_fin_timeout says.
const timeWaitScale = 60 * time.Second

// pane is a list of the port page that the cursor can be in.
type pane uint8

const (
	paneSockets pane = iota
	paneHolders
)

// portPage answers for one port: the verdict first, then who holds it, then
// what lingers and for how long.
//
//	┏━ Can I bind 127.0.0.1:18789? ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━┓
//	┃ ✗ HELD  127.0.0.1:18789 cannot be bound: node (pid 4211) listens … ┃
//	┃         fix stop node (pid 4211)                                   ┃
//	┗━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━┛
//	╭─ Bind matrix ────────────────────╮╭─ Holder ───────────────────────╮
//	╰──────────────────────────────────╯╰────────────────────────────────╯
//	╭─ TIME-WAIT 12 · none refuses this bind ─────────── last in 57 s ───╮
//	│ 127.0.0.1:58934   57.2 s  ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━╸──   │
//	╰────────────────────────────────────────────────────────────────────╯
type portPage struct {
	place
	row     portRow
	holders []netstate.Holder
	list    []waiting // TIME-WAIT sockets, the longest first; else the others
	waiting bool      // list holds TIME-WAIT sockets
	gone    bool      // the network namespace cannot be read, or no more

	pane  pane
	chose bool // the user has chosen the pane
	holds scroll
	socks scroll
	page  int // rows of sockets on the screen
}

// waiting is a socket of the list, with its role in the verdict.
type waiting struct {
	netstate.Socket
	end  time.Time // of its timer, zero if hidden
	harm harm
}

// harm is what a socket does to the bind that is asked about.
type harm uint8

const (
	harmUnknown harm = iota
	harmNone
	harmMay
	harmRefuses
)

// timeWaits returns the TIME-WAIT sockets among the sockets of one port. They
// stand together, because a snapshot is sorted by state.
func timeWaits(sockets []netstate.Socket) []netstate.Socket {
	is := func(s netstate.Socket) bool { return s.State == netstate.TimeWait }
	from := slices.IndexFunc(sockets, is)
	if from < 0 {
		return nil
	}
	to := from
	for to < len(sockets) && is(sockets[to]) {
		to++
	}
	return sockets[from:to]
}

// build takes what the page needs from the observation that is shown.
func (p *portPage) build(m *Model) {
	if p.port == 0 || m.shown.Snapshot == nil {
		return
	}
	t := m.shown.table(p.place)
	if p.gone = t == nil; p.gone {
		p.row, p.holders, p.list, p.waiting = portRow{place: p.place}, nil, nil, false
		return
	}
	p.netns = t.Snapshot.NetNS // its name may have changed
	sockets := t.Snapshot.Port(p.port)
	p.row = m.newRow(t, p.port, sockets)
	p.row.find(m.shown.Owners)
	p.holders = p.row.held

	waits := timeWaits(sockets)
	p.waiting = len(waits) > 0
	if !p.waiting {
		waits = sockets
	}
	harms := harmsOf(p.row.verdict)
	p.list = make([]waiting, len(waits))
	for i, s := range waits {
		w := waiting{Socket: s}
		if s.Timer == netstate.TimerTimeWait {
			w.end = t.Snapshot.At.Add(s.Expires)
		}
		if p.row.verdict != nil {
			w.harm = harmNone
			if h, ok := harms[keyOf(&s)]; ok {
				w.harm = h
			}
		}
		p.list[i] = w
	}
	if p.waiting {
		slices.SortStableFunc(p.list, func(a, b waiting) int {
			if c := int(b.harm) - int(a.harm); c != 0 {
				return c
			}
			return b.end.Compare(a.end)
		})
	}
	if !p.chose {
		p.pane = paneSockets
		if len(p.holders) > 1 {
			p.pane = paneHolders
		}
	}
}

func (p *portPage) do(m *Model, a action) {
	if a == actPane {
		p.chose = true
		p.pane = 1 - p.pane
		return
	}
	if p.pane == paneHolders {
		p.holds.move(a, len(p.holders), 1)
		return
	}
	p.socks.move(a, len(p.list), p.page)
}

func (p *portPage) settle(m *Model) {
	p.page = max(p.listRows(m.width, p.layout(m, m.width, m.body()).sockets), 1)
	p.holds.clamp(len(p.holders), 1)
	p.socks.clamp(len(p.list), p.page)
}

// holder returns the holder under the cursor, or nil.
func (p *portPage) holder() *netstate.Holder {
	if p.holds.at >= len(p.holders) {
		return nil
	}
	return &p.holders[p.holds.at]
}

func (p *portPage) countsDown(now time.Time) bool {
	if v := p.row.verdict; v != nil && !v.Bindable && v.Clears.From.After(now) {
		return true
	}
	return p.row.clears.After(now)
}

// portHeights divides the body of the page. What does not fit is left out,
// from the last to the first: matrix, holders, sockets.
type portHeights struct{ verdict, middle, sockets int }

func (p *portPage) layout(m *Model, w, h int) portHeights {
	var lay portHeights
	limit := 7
	switch {
	case m.height < 16:
		limit = 3
	case m.height < 24:
		limit = 4
	case m.height < 30:
		limit = 5
	}
	lay.verdict = min(len(p.verdictRows(m, w-2, limit))+2, h)
	rest := h - lay.verdict
	rest-- // the line of states
	switch {
	case rest >= 14 && m.wide() && p.row.verdict != nil && len(p.row.verdict.Matrix) > 0:
		lay.middle = min(max(matrixRows(p.row.verdict)+3, p.holderRows()+2), rest-5)
	case rest >= 9:
		lay.middle = min(p.holderRows()+2, rest-5)
	case rest >= 7:
		lay.middle = 3
	}
	lay.sockets = max(rest-lay.middle, 0)
	return lay
}

// wide reports whether there is room for two panels side by side.
func (m *Model) wide() bool { return m.width >= 100 }

func (p *portPage) view(m *Model, w, h int) []string {
	lay := p.layout(m, w, h)
	rows := p.verdict(m, w, lay.verdict)
	if lay.middle > 0 {
		rows = append(rows, p.middle(m, w, lay.middle)...)
	}
	if lay.sockets >= 4 {
		rows = append(rows, p.sockets(m, w, lay.sockets)...)
	} else {
		for i := range min(lay.sockets, len(p.list)) {
			rows = append(rows, p.socket(m, i, w, false))
		}
	}
	if line := statesLine(m, &p.row, w); line != "" {
		rows = append(draw.Fill(rows, w, h-1), line)
	}
	return draw.Fill(rows, w, h)
}

func (p *portPage) verdictRows(m *Model, w, limit int) []string {
	th := m.th
	if v := p.row.verdict; v != nil {
		return m.answer(v, w, limit, w >= 76)
	}
	if m.shown.Snapshot == nil {
		if rows := m.waitingForData(w); len(rows) > 1 {
			return rows[1:]
		}
		return []string{th.Line(w).String()}
	}
	k := m.lookOf(&p.row)
	text := fmt.Sprintf("Port %s has not been asked about yet.", p.place)
	switch {
	case p.gone:
		text = fmt.Sprintf("netns %s has ended, or can no longer be read.", p.netns)
	case len(p.row.sockets) == 0:
		text = unused(p.place)
	}
	return []string{th.Line(w).Gap(1).Put(k.style, k.glyph+" ").Put(th.Strong, text).String()}
}

func (p *portPage) verdict(m *Model, w, h int) []string {
	th := m.th
	st := th.Faint
	question := fmt.Sprintf("Can port %s be bound?", p.place)
	box := th.HeavyBox(st, draw.Span{Style: th.Strong, Text: question})
	if v := p.row.verdict; v != nil {
		box.Style = m.lookOfVerdict(v).style
		box.Title[0].Text = "Can " + v.Spec.String() + " be bound?"
		box.Right = []draw.Span{{Style: th.Faint, Text: bindOptions(v.Spec) + " · " + evidence(v, w)}}
		if w < 80 {
			box.Right = nil
		} else if w < 100 {
			box.Right = []draw.Span{{Style: th.Faint, Text: evidence(v, w)}}
		}
	}
	return box.Draw(w, h, p.verdictRows(m, w-2, h-2))
}

// bindOptions says with which options a bind was asked about.
func bindOptions(b netstate.BindSpec) string {
	switch {
	case b.ReuseAddr && b.ReusePort:
		return "with SO_REUSEADDR, SO_REUSEPORT"
	case b.ReuseAddr:
		return "with SO_REUSEADDR"
	case b.ReusePort:
		return "with SO_REUSEPORT"
	}
	return "without SO_REUSEADDR"
}
