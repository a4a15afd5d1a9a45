package ui

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	tea "github.com/charmbracelet/bubbletea"

	"berth/netstate"
	"berth/ui/draw"
)

// portsPage is the overview: a row for each port, and under it what is to be
// said about the selected one.
//
//	╭─ Ports ───────────────────────────────── 6 of 41 · trouble first ─╮
//	│   PORT    BIND                  LISTEN  ESTAB  TIME-WAIT  HOLDER  │
//	│ ▌ 18789 ◆ ✗ held by a listener     ● 1    ↔ 3  ◔ 12 57 s  node …  │
//	╰───────────────────────────────────────────────────────────────────╯
//	╭─ 18789 ───────────────────────────────────────────────────────────╮
//	│ ✗ 127.0.0.1:18789 cannot be bound: node (pid 4211) listens …      │
//	╰───────────────────────────────────────────────────────────────────╯
type portsPage struct {
	rows     []portRow // those that the filter lets through, sorted
	total    int
	selected placeID // the row under the cursor: rows come and go
	scroll   scroll
	page     int  // rows on the screen
	several  bool // a row is in another network namespace than berth's own

	order   sortOrder
	all     bool
	filter  string
	editing bool
}

// build makes the rows of the observation that is shown.
func (p *portsPage) build(m *Model) {
	rows, total := m.rowsOf(&m.shown, p.all)
	if words := strings.Fields(strings.ToLower(p.filter)); len(words) > 0 {
		rows = slices.DeleteFunc(rows, func(r portRow) bool { return !r.matches(words, m.shown.Owners) })
	}
	sortRows(rows, p.order, m.shown.Owners)
	p.rows, p.total = rows, total
	p.several = slices.ContainsFunc(rows, func(r portRow) bool { return !r.netns.Own() })
	if i := p.index(p.selected); i >= 0 {
		p.scroll.at = i
	}
}

func (p *portsPage) index(id placeID) int {
	return slices.IndexFunc(p.rows, func(r portRow) bool { return r.id() == id })
}

// row returns the selected row, or nil if there is none.
func (p *portsPage) row() *portRow {
	if p.scroll.at < 0 || p.scroll.at >= len(p.rows) {
		return nil
	}
	return &p.rows[p.scroll.at]
}

func (p *portsPage) settle(m *Model) {
	p.page = max(portsLayout(m).table-3, 1)
	p.scroll.clamp(len(p.rows), p.page)
	if r := p.row(); r != nil {
		p.selected = r.id()
	}
	from, to := p.scroll.visible(len(p.rows), p.page)
	for i := from; i < to; i++ {
		p.rows[i].find(m.shown.Owners)
	}
}

// countsDown reports whether a TIME-WAIT timer runs in a row on the screen.
func (p *portsPage) countsDown(m *Model) bool {
	from, to := p.scroll.visible(len(p.rows), p.page)
	for i := from; i < to; i++ {
		if p.rows[i].clears.After(m.at()) {
			return true
		}
	}
	return false
}

func (p *portsPage) do(m *Model, a action) {
	switch a {
	case actOpen:
		if r := p.row(); r != nil {
			m.openPort(r.place)
		}
	case actFilter:
		p.editing = true
	case actSort:
		p.order = (p.order + 1) % sortOrders
		p.build(m)
	case actAll:
		p.all = !p.all
		p.build(m)
	case actNamespaces:
		m.widen()
	default:
		p.scroll.move(a, len(p.rows), p.page)
		if r := p.row(); r != nil {
			p.selected = r.id()
		}
	}
}

// editKey edits the filter: every letter is text while it is open.
func (p *portsPage) editKey(m *Model, msg tea.KeyMsg) {
	switch msg.Type {
	case tea.KeyEnter:
		p.editing = false
	case tea.KeyEsc:
		p.editing = false
		p.setFilter(m, "")
	case tea.KeyBackspace:
		_, n := utf8.DecodeLastRuneInString(p.filter)
		p.setFilter(m, p.filter[:len(p.filter)-n])
	case tea.KeyCtrlU:
		p.setFilter(m, "")
	case tea.KeyUp:
		p.do(m, actUp)
	case tea.KeyDown:
		p.do(m, actDown)
	case tea.KeySpace:
		p.setFilter(m, p.filter+" ")
	case tea.KeyRunes:
		p.setFilter(m, p.filter+string(msg.Runes))
	}
}

func (p *portsPage) setFilter(m *Model, s string) {
	p.filter = s
	p.build(m)
}

// portsHeights divides the body between the table and the summary. A summary
// of 0 is left out: on a short terminal the rows say it.
type portsHeights struct{ table, summary int }

func portsLayout(m *Model) portsHeights {
	body := m.body()
	summary := 0
	switch {
	case m.height >= 30 && m.width >= 100:
		summary = 13
	case m.height >= 24:
		summary = 8
	case m.height >= 20:
		summary = 6
	}
	if body-summary < 6 {
		summary = 0
	}
	return portsHeights{table: body - summary, summary: summary}
}

func (p *portsPage) view(m *Model, w, h int) []string {
	lay := portsLayout(m)
	rows := p.table(m, w, lay.table)
	if lay.summary > 0 {
		rows = append(rows, p.summary(m, w, lay.summary)...)
	}
	return rows
}

// columns are the widths of the table for one breakpoint. They depend on the
// terminal and on whether several network namespaces are shown, so that nothing
// jumps while numbers change; 0 leaves a column out, holder takes what is left.
type columns struct {
	port, netns, bind, listen, estab, wait, left, bar, holder, spark int

	glyphs bool // a glyph before each number
	long   bool // the long words of a verdict
}

func columnsFor(w int, several bool) columns {
	var c columns
	switch {
	// The namespace takes the room of what says least: of the past and the
	// bars, then of the long words, then of the numbers.
	case several && w >= 120:
		c = columns{port: 8, netns: 20, bind: 21, listen: 7, estab: 7, wait: 6, left: 7, bar: 7, spark: 10, glyphs: true, long: true}
	case several && w >= 100:
		c = columns{port: 8, netns: 20, bind: 21, listen: 7, estab: 7, wait: 6, left: 7, glyphs: true, long: true}
	case several && w >= 80:
		c = columns{port: 8, netns: 13, bind: 13, listen: 7, estab: 6, wait: 6, left: 7, glyphs: true}
	case several && w >= 60:
		c = columns{port: 8, netns: 10, bind: 13, wait: 4, left: 8}
	case several:
		c = columns{port: 8, bind: 14, netns: min(w-2-3-8-14, 20)}
	case w >= 100:
		c = columns{port: 8, bind: 21, listen: 7, estab: 7, wait: 6, left: 7, bar: 7, spark: 10, glyphs: true, long: true}
		if extra := w - 100; extra > 0 {
			grow := min(extra/3, 18)
			c.spark += grow
			c.bar += min(extra/4, 12)
		}
	case w >= 80:
		c = columns{port: 8, bind: 21, listen: 7, estab: 6, wait: 6, left: 7, bar: 5, glyphs: true, long: true}
	case w >= 60:
		c = columns{port: 8, bind: 13, listen: 3, estab: 4, wait: 5, left: 8}
	default:
		c = columns{port: 8, bind: 14, left: 8}
	}
	if w >= 60 {
		c.holder = w - 2 - 3 - 1 - c.port - c.netns - c.bind - c.listen - c.estab - c.wait - c.left - c.bar - c.spark
		if c.spark > 0 {
			c.holder--
		}
	}
	return c
}

func (p *portsPage) table(m *Model, w, h int) []string {
	th := m.th
	box := th.Box(draw.Span{Style: th.Strong, Text: "Ports"})
	note := ""
	if m.shown.Snapshot != nil {
		note = fmt.Sprintf("%d of %d", len(p.rows), p.total)
	}
	if note != "" && w >= 60 {
		note += " · " + p.order.String()
	}
	if note != "" && p.all && w >= 80 {
		note += " · all"
	}
	if note != "" && m.reach.All {
		note += " · all namespaces"
	}
	if note != "" {
		box.Right = []draw.Span{{Style: th.Faint, Text: note}}
	}
	in := w - 2
	var body []string
	switch {
	case m.shown.Snapshot == nil:
		body = m.waitingForData(in)
	case len(p.rows) == 0:
		body = []string{th.Line(in).String(), th.Line(in).Gap(3).Put("", fmt.Sprintf("no port matches “%s”", p.filter)).String()}
		body = append(body, th.Line(in).Gap(3).Put(th.Faint, "esc clears the filter").String())
	default:
		c := columnsFor(w, p.several)
		body = append(body, p.heading(m, c, in))
		from, to := p.scroll.visible(len(p.rows), h-3)
		for i := from; i < to; i++ {
			body = append(body, p.line(m, &p.rows[i], c, in, i == p.scroll.at))
		}
		if len(p.rows) == 1 && p.rows[0].gateway && p.filter == "" && len(p.rows[0].sockets) == 0 {
			body = append(body, th.Line(in).String(), th.Line(in).Gap(3).Put(th.Faint, "nothing else listens or lingers on this machine").String())
		}
	}
	return box.Draw(w, h, body)
}

// waitingForData fills a box before the first reading: nothing at first,
// since it usually takes a few milliseconds.
func (m *Model) waitingForData(w int) []string {
	th := m.th
	blank := th.Line(w).String()
	switch {
	case m.obs.Err != nil:
		rows := []string{blank, th.Line(w).Gap(3).Put(th.Refused, "nothing could be read yet").String()}
		for _, t := range th.Wrap(m.obs.Err.Error(), w-4, 3) {
			rows = append(rows, th.Line(w).Gap(3).Put("", t).String())
		}
		for _, t := range th.Wrap(hintOf(m.obs.Err), w-4, 2) {
			rows = append(rows, th.Line(w).Gap(3).Put(th.Faint, t).String())
		}
		return rows
	case m.slowRead:
		return []string{blank, th.Line(w).Gap(3).Put(th.Faint, "reading the socket table …").String()}
	}
	return nil
}

func (p *portsPage) heading(m *Model, c columns, w int) string {
	st := m.th.Faint
	l := m.th.Line(w).Gap(3).Col(st, "PORT", c.port)
	if c.netns > 0 {
		l.Col(st, "NETNS", c.netns)
	}
	l.Col(st, "BIND", c.bind)
	switch {
	case c.glyphs:
		// One heading for the count, the time left and its bar.
		l.ColRight(st, "LISTEN", c.listen).ColRight(st, "ESTAB", c.estab).Gap(2).Col(st, "TIME-WAIT", c.wait+c.left+c.bar-2)
	default:
		for _, col := range []struct {
			name string
			w    int
		}{{"L", c.listen}, {"E", c.estab}, {"TW", c.wait}, {"LEFT", c.left}} {
			l.ColRight(st, col.name, col.w)
		}
	}
	if c.holder > 0 {
		l.Gap(1).Col(st, "HOLDER", c.holder)
	}
	if c.spark > 0 {
		l.Gap(1).Col(st, "LAST 60 s", c.spark)
	}
	return l.String()
}

func (p *portsPage) line(m *Model, r *portRow, c columns, w int, selected bool) string {
	th, k := m.th, m.lookOf(r)
	l := th.Line(w).Gap(1)
	number := fmt.Sprint(r.port)
	if selected {
		l.Base(th.Strong).Put("", th.Sym.Cursor).Put(th.Selected, " "+number+" ")
	} else {
		l.To(3).Put("", number)
	}
	if r.gateway {
		l.To(3+6).Put(th.Free, th.Sym.Started)
	}
	words := k.word
	if c.long {
		words = k.words
	}
	l.To(3 + c.port)
	if c.netns > 0 {
		st := draw.Style("")
		if r.netns.Own() {
			st = th.Faint
		}
		l.Col(st, namespace(r.netns, c.netns-1, th.ASCII), c.netns-1).Gap(1)
	}
	bind := l.Cells()
	l.Put(k.style, k.glyph).Gap(1).Put(k.style, words).To(bind + c.bind)
	p.number(m, l, c, c.listen, r.listen, th.Sym.Listen, th.Listen)
	p.number(m, l, c, c.estab, r.estab, th.Sym.Estab, th.Estab)
	p.number(m, l, c, c.wait, r.wait, th.Sym.Waiting, th.Waiting)
	p.countdown(m, l, c, r)
	if c.holder > 0 {
		l.Gap(1)
		p.holder(m, l, r, c.holder)
	}
	if c.spark > 0 {
		l.Gap(1)
		s := lately(m.past.of(r.id()), m.at(), time.Minute, c.spark)
		st, number := th.Waiting, func(s sample) int { return s.wait }
		if r.wait == 0 && r.listen+r.estab > 0 {
			st, number = th.Estab, func(s sample) int { return s.estab }
		}
		s.levels(th, l, st, number)
	}
	return l.String()
}

// number writes a count, faint if it is zero.
func (p *portsPage) number(m *Model, l *draw.Line, c columns, w, n int, glyph string, st draw.Style) {
	if n == 0 {
		glyph, st = m.th.Sym.None, m.th.Faint
	}
	text := fmt.Sprint(n)
	if n > 99999 {
		text = fmt.Sprintf("%dk", n/1000)
	}
	if c.glyphs {
		text = glyph + " " + text
	}
	l.ColRight(st, text, w)
}

// countdown writes the longest TIME-WAIT that is left, with a bar.
func (p *portsPage) countdown(m *Model, l *draw.Line, c columns, r *portRow) {
	th := m.th
	switch {
	case r.wait == 0 || c.left == 0:
		l.Gap(c.left + c.bar)
	case r.clears.IsZero():
		// The timer is hidden here; the count is all there is.
		l.ColRight(th.Faint, "?", c.left).Gap(c.bar)
	default:
		l.ColRight(th.Waiting, left(r.clears, m.at()), c.left)
		if c.bar > 0 {
			l.Gap(1).Bar(th.Waiting, th.Faint, th.Sym.Rail, fraction(r.clears, m.at(), timeWaitScale), c.bar-1)
		}
	}
}

func (p *portsPage) holder(m *Model, l *draw.Line, r *portRow, w int) {
	th := m.th
	to := l.Cells() + w
	hs := r.held
	switch {
	case len(hs) > 0:
		h, more := hs[0], ""
		if len(hs) > 1 {
			more = fmt.Sprintf(" +%d", len(hs)-1)
		}
		if h.Container == r.netns.Name {
			h.Container = "" // The row says it already.
		}
		l.Put("", whoIn(h, m.opts.User, w-len(more), th.ASCII)).Put(th.Faint, more)
	case r.owned:
		l.Put(th.Warn, "hidden")
	case len(r.sockets) > 0:
		l.Put(th.Faint, "no process")
	default:
		l.Put(th.Faint, "-")
	}
	l.To(to)
}

// summary says what matters about the selected port, the verdict first.
func (p *portsPage) summary(m *Model, w, h int) []string {
	th := m.th
	r := p.row()
	if r == nil {
		return th.Box().Draw(w, h, nil)
	}
	title := []draw.Span{{Style: th.Strong, Text: r.place.String()}}
	if r.gateway {
		title = append(title, draw.Span{Style: th.Faint, Text: " " + th.Sym.Started + " the gateway's port"})
	}
	box := th.Box(title...)
	in, inner := w-2, h-2
	var body []string
	tall := inner >= 10
	words := inner
	if tall {
		words = inner - 6
	}
	if r.verdict != nil {
		box.Right = []draw.Span{{Style: th.Faint, Text: evidence(r.verdict, w)}}
		body = m.answer(r.verdict, in, words, false)
	} else {
		k := m.lookOf(r)
		body = append(body, th.Line(in).Gap(1).Put(k.style, k.glyph+" ").Put(th.Strong, p.unjudged(r)).String())
		if words > 1 {
			hint := "enter asks the kernel with a real bind"
			if r.gateway && len(r.sockets) == 0 && !m.gateway.alive {
				hint = "L launches the gateway here · " + hint
			}
			body = append(body, th.Line(in).Gap(3).Put(th.Faint, hint).String())
		}
	}
	if tall {
		body = draw.Fill(body, in, inner-5)
		s := lately(m.past.of(r.id()), m.at(), time.Minute, max(in-2-stripLabel-stripValue, 4))
		body = append(body, s.rows(th, in)...)
		body = append(body, s.axis(th, in))
	} else if len(body) < inner {
		if line := statesLine(m, r, in); line != "" {
			body = draw.Fill(body, in, inner-1)
			body = append(body, line)
		}
	}
	return box.Draw(w, h, body)
}

func (p *portsPage) unjudged(r *portRow) string {
	if len(r.sockets) == 0 {
		return unused(r.place)
	}
	return fmt.Sprintf("%s on port %s.", count(len(r.sockets), "socket", "sockets"), r.place)
}

// unused says that a port has no sockets.
func unused(at place) string {
	if at.netns.Own() {
		return fmt.Sprintf("No socket of any state uses port %d here.", at.port)
	}
	return fmt.Sprintf("No socket of any state uses port %s.", at)
}

// statesLine counts the sockets of a port by state.
func statesLine(m *Model, r *portRow, w int) string {
	if len(r.sockets) == 0 {
		return ""
	}
	th, counts := m.th, &r.counts
	l := th.Line(w)
	for _, st := range stateOrder {
		n := counts[st]
		if n == 0 {
			continue
		}
		glyph, style := stateLook(m, st)
		l.Gap(1).Put(style, glyph).Gap(1).Put("", st.String()).Gap(1).Put(th.Strong, fmt.Sprint(n)).Gap(2)
	}
	if counts[netstate.CloseWait] > 0 {
		l.Put(th.Warn, "the peer left, the program did not close")
	}
	return l.String()
}

// stateOrder is the order in which states are told.
var stateOrder = [...]netstate.State{
	netstate.Listen, netstate.Bound, netstate.Established, netstate.CloseWait, netstate.SynSent, netstate.SynRecv,
	netstate.FinWait1, netstate.FinWait2, netstate.Closing, netstate.LastAck, netstate.TimeWait, netstate.NewSynRecv, netstate.Closed,
}

func stateLook(m *Model, st netstate.State) (string, draw.Style) {
	th := m.th
	switch st {
	case netstate.Listen, netstate.Bound:
		return th.Sym.Listen, th.Listen
	case netstate.Established:
		return th.Sym.Estab, th.Estab
	case netstate.TimeWait:
		return th.Sym.Waiting, th.Waiting
	case netstate.CloseWait:
		return th.Sym.Warn, th.Warn
	}
	return th.Sym.None, th.Faint
}
