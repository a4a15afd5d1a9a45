package ui

import (
	"fmt"
	"net/netip"
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
	number  uint16
	row     portRow
	holders []netstate.Holder
	list    []waiting // TIME-WAIT sockets, the longest first; else the others
	waiting bool      // list holds TIME-WAIT sockets

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
	if p.number == 0 || m.shown.Snapshot == nil {
		return
	}
	sockets := m.shown.Snapshot.Port(p.number)
	p.row = newRow(&m.shown, p.number, sockets)
	p.row.gateway = p.number == m.gateway.info.Spec.Port
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
			w.end = m.shown.Snapshot.At.Add(s.Expires)
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

// socketKey tells sockets apart where the table has no cookies.
type socketKey struct {
	local, remote netip.AddrPort
	state         netstate.State
}

func keyOf(s *netstate.Socket) socketKey { return socketKey{s.Local, s.Remote, s.State} }

func harmsOf(v *netstate.Verdict) map[socketKey]harm {
	if v == nil {
		return nil
	}
	harms := make(map[socketKey]harm, len(v.Blockers)+len(v.Possible))
	for i := range v.Possible {
		harms[keyOf(&v.Possible[i].Socket)] = harmMay
	}
	for i := range v.Blockers {
		h := harmMay
		if v.Blockers[i].Certain && !v.Bindable {
			h = harmRefuses
		}
		harms[keyOf(&v.Blockers[i].Socket)] = h
	}
	return harms
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

// listRows is how many sockets a box of h rows shows.
func (p *portPage) listRows(w, h int) int {
	h -= 2
	if p.waiting && (p.row.clears.IsZero() || w >= 80 && h >= 4) {
		h-- // the scale, or the note that there is none
	}
	return h
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
	text := fmt.Sprintf("Port %d has not been asked about yet.", p.number)
	if len(p.row.sockets) == 0 {
		text = fmt.Sprintf("No socket of any state uses port %d here.", p.number)
	}
	return []string{th.Line(w).Gap(1).Put(k.style, k.glyph+" ").Put(th.Strong, text).String()}
}

func (p *portPage) verdict(m *Model, w, h int) []string {
	th := m.th
	st := th.Faint
	question := fmt.Sprintf("Can port %d be bound?", p.number)
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

// middle draws the matrix and the holders, or the holders alone.
func (p *portPage) middle(m *Model, w, h int) []string {
	if !m.wide() || p.row.verdict == nil || len(p.row.verdict.Matrix) == 0 {
		return p.holderBox(m, w, h)
	}
	left := 56
	return draw.Beside(p.matrix(m, left, h), p.holderBox(m, w-left, h))
}

// matrixRows counts the addresses of a verdict's matrix.
func matrixRows(v *netstate.Verdict) int {
	n := 0
	for i := range v.Matrix {
		if i == 0 || !samePlace(v.Matrix[i].Spec, v.Matrix[i-1].Spec) {
			n++
		}
	}
	return n
}

func samePlace(a, b netstate.BindSpec) bool {
	return a.Addr == b.Addr && a.V6Only == b.V6Only && a.Family == b.Family
}

// matrix draws what the rules say of the same port with other addresses and
// options, with the bind that was asked about marked.
func (p *portPage) matrix(m *Model, w, h int) []string {
	th, v := m.th, p.row.verdict
	in := w - 2
	const label, cell = 22, 10
	box := th.Box(draw.Span{Style: th.Strong, Text: "Bind matrix"})
	box.Right = []draw.Span{{Style: th.Faint, Text: "by the rules"}}
	body := []string{th.Line(in).Gap(1+label).Col(th.Faint, "plain", cell).Col(th.Faint, "REUSEADDR", cell+1).Col(th.Faint, "+REUSEPORT", cell).String()}
	var l *draw.Line
	asked := false
	for i := range v.Matrix {
		c := &v.Matrix[i]
		if i == 0 || !samePlace(c.Spec, v.Matrix[i-1].Spec) {
			if l != nil {
				body = append(body, l.String())
			}
			l = th.Line(in).Gap(1).Col("", draw.Middle(placeText(c.Spec), label-1, th.ASCII), label)
		}
		glyph, word, st := th.Sym.None, "unsure", th.Faint
		switch c.Bindable {
		case netstate.Yes:
			glyph, word, st = th.Sym.Free, "free", th.Free
		case netstate.No:
			glyph, word, st = th.Sym.Refused, "in use", th.Refused
		}
		is := !asked && samePlace(c.Spec, v.Spec) && c.Spec.ReuseAddr == v.Spec.ReuseAddr && c.Spec.ReusePort == v.Spec.ReusePort
		if is {
			asked = true
			word += " " + "◀"
			if th.ASCII {
				word = word[:len(word)-len("◀")] + "<"
			}
		}
		width := cell
		if c.Spec.ReuseAddr && !c.Spec.ReusePort {
			width++
		}
		l.Col(st, glyph+" "+word, width)
	}
	if l != nil {
		body = append(body, l.String())
	}
	return box.Draw(w, h, body)
}

// placeText names an address of the matrix.
func placeText(b netstate.BindSpec) string {
	text := b.AddrPort().String()
	if b.Addr.Is6() && b.Addr.IsUnspecified() {
		if b.V6Only {
			return text + " v6only"
		}
		return text + " dual"
	}
	return text
}

// holderRows is how many rows the holders want.
func (p *portPage) holderRows() int { return min(max(len(p.holders), 1)+4, 8) }

func (p *portPage) holderBox(m *Model, w, h int) []string {
	th := m.th
	title := []draw.Span{{Style: th.Strong, Text: "Held by"}}
	if n := len(p.holders); n > 1 {
		title = append(title, draw.Span{Style: th.Faint, Text: fmt.Sprintf(" %d processes", n)})
	}
	box := th.Box(title...)
	if p.pane == paneHolders && len(p.holders) > 1 {
		box.Right = []draw.Span{{Style: th.Faint, Text: "x kill one…"}}
	}
	in := w - 2
	var body []string
	if len(p.holders) == 0 {
		body = p.nobody(m, in)
	}
	// The cursor's holder is told in full, the others in one row each.
	room := h - 2
	full := min(room-min(len(p.holders)-1, 2), 5)
	first := max(min(p.holds.at, len(p.holders)-max(room-full+1, 1)), 0)
	for i := first; i < len(p.holders) && len(body) < room; i++ {
		body = append(body, p.holderRow(m, &p.holders[i], in, i == p.holds.at))
		if i == p.holds.at && full > 1 {
			details := p.holderDetails(m, &p.holders[i], in)
			body = append(body, details[:min(len(details), full-1)]...)
		}
	}
	return box.Draw(w, h, body)
}

// nobody says why the list of holders is empty.
func (p *portPage) nobody(m *Model, w int) []string {
	th := m.th
	st, text := draw.Style(""), "no process: only the kernel remembers these connections"
	switch {
	case len(p.row.sockets) == 0:
		st, text = th.Faint, "nobody"
	case p.row.owned:
		st, text = th.Warn, "a process that you may not see"
	}
	var rows []string
	for _, t := range th.Wrap(text, w-2, 2) {
		rows = append(rows, th.Line(w).Gap(1).Put(st, t).String())
	}
	return rows
}

func (p *portPage) holderRow(m *Model, h *netstate.Holder, w int, cursor bool) string {
	th := m.th
	l := th.Line(w)
	if cursor && p.pane == paneHolders && len(p.holders) > 1 {
		l.Put(th.Strong, th.Sym.Cursor)
	}
	l.To(1)
	name := h.Name
	if name == "" {
		name = "?"
	}
	l.Put(th.Strong, name).Gap(1).Put("", fmt.Sprintf("pid %d", h.ID.PID)).Gap(2).Put("", user(*h, m.opts.User))
	if h.User != "" && h.UID >= 0 && w >= 60 {
		l.Put(th.Faint, fmt.Sprintf(" uid %d", h.UID))
	}
	if h.FD >= 0 {
		l.Put(th.Faint, fmt.Sprintf("  fd %d", h.FD))
	}
	if !h.Started.IsZero() {
		l.Put(th.Faint, "  up "+age(m.at().Sub(h.Started)))
	}
	return l.String()
}

func (p *portPage) holderDetails(m *Model, h *netstate.Holder, w int) []string {
	th := m.th
	var rows []string
	add := func(label, text string, limit int) {
		if text == "" {
			return
		}
		for i, t := range th.Wrap(text, w-10, limit) {
			l := th.Line(w).Gap(1)
			if i == 0 {
				l.Put(th.Faint, label)
			}
			rows = append(rows, l.To(9).Put("", t).String())
		}
	}
	add("command", command(h.Cmdline), 2)
	switch {
	case h.Container != "":
		add("runs in", "container "+h.Container, 1)
	case h.Unit != "":
		add("unit", h.Unit, 1)
	}
	add("cwd", h.Cwd, 1)
	parents := ""
	for i, a := range h.Parents {
		if i > 0 {
			parents += " ← "
		}
		parents += fmt.Sprintf("%s %d", a.Name, a.PID)
	}
	add("parent", parents, 1)
	return rows
}

func (p *portPage) sockets(m *Model, w, h int) []string {
	th := m.th
	n := len(p.list)
	title := []draw.Span{{Style: th.Strong, Text: "Sockets"}}
	var right string
	if p.waiting {
		title = []draw.Span{{Style: th.Strong, Text: fmt.Sprintf("TIME-WAIT %d", n)}}
		if text, st := p.harmText(m); text != "" && w >= 60 {
			title = append(title, draw.Span{Style: st, Text: " · " + text})
		}
		if !p.row.clears.IsZero() {
			right = "last one gone in " + left(p.row.clears, m.at())
			if w < 80 {
				right = "last " + left(p.row.clears, m.at())
			}
		}
	}
	in, room := w-2, p.listRows(w, h)
	from, to := p.socks.visible(n, room)
	box := th.Box(title...)
	if n > room && w >= 80 {
		box.Right = []draw.Span{{Style: th.Faint, Text: fmt.Sprintf("%d–%d of %d", from+1, to, n)}}
		if right != "" {
			box.Right[0].Text += " · "
		}
	}
	if right != "" {
		box.Right = append(box.Right, draw.Span{Style: th.Waiting, Text: right})
	}
	var body []string
	switch {
	case n == 0:
		body = append(body, th.Line(in).Gap(1).Put(th.Faint, "none: no connection lingers and nothing is bound").String())
	case p.waiting && p.row.clears.IsZero():
		body = append(body, th.Line(in).Gap(1).Put(th.Faint, "this system does not tell how long they last").String())
	case p.waiting && room < h-2:
		body = append(body, p.scale(m, in))
	}
	for i := from; i < to; i++ {
		body = append(body, p.socket(m, i, in, p.pane == paneSockets && i == p.socks.at && n > room))
	}
	return box.Draw(w, h, body)
}

// harmText says in words what the TIME-WAIT sockets do to the bind.
func (p *portPage) harmText(m *Model) (string, draw.Style) {
	v := p.row.verdict
	if v == nil {
		return "", ""
	}
	refuses, may := 0, 0
	for i := range p.list {
		switch p.list[i].harm {
		case harmRefuses:
			refuses++
		case harmMay:
			may++
		}
	}
	switch {
	case refuses > 1 && refuses == len(p.list):
		return "all of them refuse the bind", m.th.Refused
	case refuses > 0:
		return fmt.Sprintf("%d %s", refuses, pick(refuses, "refuses the bind", "refuse the bind")), m.th.Refused
	case may > 0 && !v.Bindable && v.Reason == netstate.ReasonLingering:
		return "one of them refuses the bind", m.th.Refused
	case may > 0:
		return "harmless if their server set SO_REUSEADDR", m.th.Warn
	}
	return "none of them refuses this bind", m.th.Free
}

func pick(n int, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}

// socketColumns are the widths of the list of sockets.
func socketColumns(w int) (remote, left, bar int) {
	remote, left = 22, 8
	switch {
	case w >= 98:
		remote = 24
	case w < 58:
		remote = 17
	}
	bar = w - 3 - remote - left - 2 - 1
	if w >= 76 {
		bar -= 18
	}
	return remote, left, max(bar, 0)
}

// scale draws the axis over the bars.
func (p *portPage) scale(m *Model, w int) string {
	th := m.th
	remote, leftW, bar := socketColumns(w)
	l := th.Line(w).Gap(3).Col(th.Faint, "REMOTE", remote).ColRight(th.Faint, "LEFT", leftW).Gap(2)
	start := l.Cells()
	for i := range 4 {
		l.To(start+bar*i/4).Put(th.Faint, fmt.Sprint(i*15))
	}
	return l.To(start+bar-4).Put(th.Faint, "60 s").String()
}

// socket draws one socket: a countdown, or its state and addresses.
func (p *portPage) socket(m *Model, i, w int, cursor bool) string {
	th, s := m.th, &p.list[i]
	l := th.Line(w).Gap(1)
	if cursor {
		l.Put(th.Strong, th.Sym.Cursor)
	}
	l.To(3)
	if !p.waiting {
		glyph, st := stateLook(m, s.State)
		l.Put(st, glyph).Gap(1).Col("", s.State.String(), 12).Put("", s.Local.String())
		switch {
		case s.Remote.IsValid():
			l.Put(th.Faint, " → ").Put("", s.Remote.String())
		case s.State == netstate.Listen && s.RecvQ > 0:
			l.Put(th.Warn, fmt.Sprintf("  %d wait to be accepted, limit %d", s.RecvQ, s.SendQ))
		}
		if s.harm == harmRefuses {
			l.End(draw.Span{Style: th.Refused, Text: " refuses the bind "})
		}
		return l.String()
	}
	remote, leftW, bar := socketColumns(w)
	l.Col("", draw.Middle(s.Remote.String(), remote-1, th.ASCII), remote)
	if s.end.IsZero() {
		return l.ColRight(th.Faint, "?", leftW).String()
	}
	l.ColRight(th.Waiting, tenths(s.end, m.at()), leftW).Gap(2)
	l.Bar(th.Waiting, th.Faint, th.Sym.Rail, fraction(s.end, m.at(), timeWaitScale), bar)
	switch s.harm {
	case harmRefuses:
		l.End(draw.Span{Style: th.Refused, Text: " refuses the bind "})
	case harmMay:
		l.End(draw.Span{Style: th.Warn, Text: " may refuse it    "})
	case harmNone:
		l.End(draw.Span{Style: th.Faint, Text: " harmless         "})
	}
	return l.String()
}
