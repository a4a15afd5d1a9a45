package ui

import (
	"errors"
	"fmt"
	"strings"

	"github.com/charmbracelet/x/ansi"

	"berth/netstate"
	"berth/ui/draw"
)

// View draws the screen.
//
//	 berth · dev-7 · linux 6.18                                14:02:11   header
//	 1 Ports   2 Gateway ◇ stopped                                        tabs, if tall enough
//	╭─ … ────────────────────────────────────────────────────────────╮
//	│                                                                 │   the page
//	╰─────────────────────────────────────────────────────────────────╯
//	 ! holders of 2 sockets are hidden                                    note, if there is one
//	 enter why  r reclaim…  R force-restart…             ? help  q quit   footer
func (m *Model) View() string {
	if m.width <= 0 || m.height <= 0 || m.quitting {
		return ""
	}
	return strings.Join(m.screen(), "\n")
}

// The smallest terminal that gets a page; below it there is one sentence.
const (
	minWidth  = 40
	minHeight = 10
)

func (m *Model) tooSmall() bool { return m.width < minWidth || m.height < minHeight }

func (m *Model) screen() []string {
	w, h := m.width, m.height
	if m.tooSmall() {
		return draw.Fill(m.sentence(w, h), w, h)
	}
	rows := m.header(w)
	rows = append(rows, m.pageView(w, m.body())...)
	if note := m.note(); note != nil {
		rows = append(rows, m.th.Line(w).Gap(1).Spans(note...).String())
	}
	rows = append(rows, m.footer(w))
	rows = draw.Fill(rows, w, h)
	switch {
	case m.dialog != nil:
		rows = m.dialog.view(m, rows)
	case m.help.open:
		rows = m.help.view(m, rows)
	}
	return rows
}

// tabs reports whether the tabs have a row of their own.
func (m *Model) tabs() bool { return m.height >= 24 }

// body is how many rows the page has.
func (m *Model) body() int {
	n := m.height - 2 // header and footer
	if m.tabs() {
		n--
	}
	if m.note() != nil {
		n--
	}
	return max(n, 0)
}

func (m *Model) pageView(w, h int) []string {
	switch m.page {
	case onPort:
		return draw.Fill(m.port.view(m, w, h), w, h)
	case onRun:
		return m.job.view(m, w, h)
	case onGateway:
		return draw.Fill(m.gateway.view(m, w, h), w, h)
	}
	return draw.Fill(m.ports.view(m, w, h), w, h)
}

func (m *Model) header(w int) []string {
	th := m.th
	l := th.Line(w).Gap(1).Put(th.Strong, "berth")
	switch m.page {
	case onPort:
		l.Put(th.Faint, " › ").Put(th.Strong, m.port.String())
		if m.port.id() == placeOf(m.gateway.info.Spec).id() {
			l.Put(th.Free, " "+th.Sym.Started).Put(th.Faint, " the gateway's port")
		}
	case onRun:
		l.Put(th.Faint, " › ").Put(th.Strong, m.job.place().String()).Put(th.Faint, " › ").Put("", strings.ToLower(strings.Fields(m.job.title())[0]))
	default:
		if m.opts.Hostname != "" && w >= 60 {
			l.Put(th.Faint, " · ").Put("", m.opts.Hostname)
		}
		if m.opts.Kernel != "" && w >= 80 {
			l.Put(th.Faint, " · "+m.opts.Kernel)
		}
	}
	var end []draw.Span
	if !m.pausedAt.IsZero() {
		end = append(end, draw.Span{Style: th.Selected, Text: " PAUSED " + age(m.now.Sub(m.pausedAt)) + " "}, draw.Span{Text: "  "})
	}
	if !m.now.IsZero() {
		end = append(end, draw.Span{Style: th.Faint, Text: clock(m.now) + " "})
	}
	if !m.tabs() {
		// The tabs stand in the same row where there is room for them.
		tabs := append(m.tabSpans(false), draw.Span{Text: "   "})
		if l.Cells()+3+draw.SpansWidth(tabs, th.ASCII)+draw.SpansWidth(end, th.ASCII) <= w {
			end = append(tabs, end...)
		}
		return []string{l.End(end...).String()}
	}
	t := th.Line(w).Gap(1).Spans(m.tabSpans(true)...)
	if m.page == onPorts && (m.ports.editing || m.ports.filter != "") {
		cursor := ""
		if m.ports.editing {
			cursor = " "
		}
		t.End(draw.Span{Style: th.Strong, Text: "/" + m.ports.filter}, draw.Span{Style: th.Selected, Text: cursor}, draw.Span{Text: " "})
	}
	return []string{l.End(end...).String(), t.String()}
}

func (m *Model) tabSpans(long bool) []draw.Span {
	th := m.th
	look := func(on bool) draw.Style {
		if on {
			return th.Selected
		}
		return ""
	}
	onGate := m.page == onGateway
	spans := []draw.Span{{Style: look(!onGate), Text: " 1 Ports "}, {Text: " "}, {Style: look(onGate), Text: " 2 Gateway "}}
	glyph, words, st := m.gateway.look(m)
	if long {
		spans = append(spans, draw.Span{Style: st, Text: " " + glyph + " " + words})
	} else {
		spans = append(spans, draw.Span{Style: st, Text: glyph})
	}
	return spans
}

// note is the row above the footer: what just happened, what went wrong with
// reading, what cannot be seen. The most urgent one wins; nil leaves it out.
func (m *Model) note() []draw.Span {
	th := m.th
	switch {
	case m.page == onPorts && !m.tabs() && (m.ports.editing || m.ports.filter != ""):
		spans := []draw.Span{{Style: th.Strong, Text: "/" + m.ports.filter}}
		if m.ports.editing {
			spans = append(spans, draw.Span{Style: th.Selected, Text: " "})
		}
		return spans
	case m.notice != "":
		return []draw.Span{{Style: th.Strong, Text: th.Sym.Running + " "}, {Text: m.notice}}
	case m.ended:
		return []draw.Span{{Style: th.Warn, Text: th.Sym.Warn + " "}, {Text: "reading has ended: what you see is no longer updated"}}
	case m.obs.Err != nil:
		spans := []draw.Span{{Style: th.Refused, Text: th.Sym.Refused + " " + m.obs.Err.Error()}}
		if m.shown.Snapshot != nil {
			spans = append(spans, draw.Span{Style: th.Warn, Text: " · what you see is " + age(m.now.Sub(m.shown.Snapshot.At)) + " old"})
		}
		if hint := hintOf(m.obs.Err); hint != "" {
			spans = append(spans, draw.Span{Style: th.Faint, Text: " · " + hint})
		}
		return spans
	case m.page == onPorts && m.shown.Note != "":
		return []draw.Span{{Style: th.Warn, Text: th.Sym.Warn + " "}, {Text: m.shown.Note}}
	case m.hiddenHolders() > 0:
		text := fmt.Sprintf("holders of %s are hidden", count(m.hiddenHolders(), "socket", "sockets"))
		hint := ""
		switch caps := &m.shown.Snapshot.Caps; {
		case len(caps.Notes) > 0:
			hint = caps.Notes[0]
		case caps.AllHolders:
			hint = "the kernel itself or another container has them"
		case m.width >= 80:
			hint = "run as root to see them"
		}
		spans := []draw.Span{{Style: th.Warn, Text: th.Sym.Warn + " "}, {Text: text}}
		if hint != "" {
			spans = append(spans, draw.Span{Style: th.Faint, Text: ": " + hint})
		}
		return spans
	case m.shown.Snapshot != nil && len(m.shown.Snapshot.Caps.Notes) > 0:
		return []draw.Span{{Style: th.Warn, Text: th.Sym.Warn + " "}, {Style: th.Faint, Text: m.shown.Snapshot.Caps.Notes[0]}}
	}
	return nil
}

func (m *Model) hiddenHolders() int {
	if m.shown.Owners == nil || m.shown.Snapshot == nil {
		return 0
	}
	return m.shown.Owners.Hidden
}

// hintOf returns what an error suggests to do.
func hintOf(err error) string {
	var op *netstate.OpError
	if errors.As(err, &op) {
		return op.Hint
	}
	return ""
}

// footer names the keys of the page: those at the right always, of the others
// as many as there is room for.
func (m *Model) footer(w int) string {
	th := m.th
	key := func(b *binding) []draw.Span {
		foot := b.foot
		if b.act == actBack && m.page == onRun && !m.job.freeing() {
			foot = "back"
		}
		return []draw.Span{{Style: th.Strong, Text: b.show}, {Style: th.Faint, Text: " " + foot}}
	}
	var right []draw.Span
	for i := range table {
		if b := &table[i]; b.on&m.page != 0 && b.foot != "" && b.right {
			// Back is the way out of a page that lies over another; quit
			// would only compete with it for the last cells.
			if b.act == actQuit && w < 60 && m.page != onPorts {
				continue
			}
			right = append(right, draw.Span{Text: "  "})
			right = append(right, key(b)...)
		}
	}
	right = append(right, draw.Span{Text: " "})
	l := th.Line(w).Gap(1)
	room := w - draw.SpansWidth(right, th.ASCII)
	for i := range table {
		b := &table[i]
		if b.on&m.page == 0 || b.foot == "" || b.right {
			continue
		}
		spans := key(b)
		if l.Cells()+draw.SpansWidth(spans, th.ASCII)+2 > room {
			break
		}
		l.Spans(spans...).Gap(2)
	}
	return l.End(right...).String()
}

// dim takes the styles of a page away and makes it recede, so that what lies
// over it is alone in being bright.
func (m *Model) dim(rows []string) []string {
	out := make([]string, len(rows))
	for i, row := range rows {
		out[i] = m.th.Line(m.width).Put(m.th.Faint, ansi.Strip(row)).String()
	}
	return out
}

// sentence is all that a very small terminal shows: the verdict of the port
// that matters, or the question that waits for an answer.
func (m *Model) sentence(w, h int) []string {
	th := m.th
	var rows []string
	add := func(st draw.Style, text string, limit int) {
		for _, t := range th.Wrap(text, w, limit) {
			rows = append(rows, th.Line(w).Put(st, t).String())
		}
	}
	keys := "r free  R restart  q quit"
	if w < 25 {
		keys = "r R q"
	}
	room := max(h-1, 1)
	switch {
	case m.dialog != nil && m.dialog.planned:
		d := m.dialog
		keys = "esc closes"
		if d.possible() {
			keys = "y go  n cancel"
		}
		if d.wantsName() {
			keys = "enter goes, esc not"
		}
		add(th.Strong, d.question(m), min(2, room))
		if d.wantsName() {
			add("", "Type "+d.plan.Typed+": "+d.typed, room-len(rows))
		} else if d.err == nil && !d.possible() && len(d.plan.Refused) > 0 {
			add(th.Refused, d.plan.Refused[0].Text(), room-len(rows))
		} else if d.err == nil && len(d.plan.Risks) > 0 {
			add(th.Warn, d.plan.Risks[0], room-len(rows))
		} else if d.err == nil && len(d.plan.Targets()) > 0 {
			add("", "stops "+who(d.plan.Targets()[0]), room-len(rows))
		}
	case m.page == onRun && m.job != nil:
		add(th.Strong, m.job.status(m), room)
		keys = "esc back  q quit"
		if m.job.freeing() {
			keys = "esc stops waiting"
		}
	default:
		r := m.ports.row()
		if m.page == onPort {
			r = &m.port.row
		}
		switch {
		case m.obs.Err != nil && m.shown.Snapshot == nil:
			add(th.Refused, m.obs.Err.Error(), room)
		case m.shown.Snapshot == nil:
			if m.slowRead {
				add(th.Faint, "reading …", room)
			}
		case r == nil:
			add("", "no port matches the filter", room)
		case r.verdict != nil:
			k := m.lookOfVerdict(r.verdict)
			add(k.style, k.glyph+" "+r.verdict.Summary, room)
		default:
			add("", fmt.Sprintf("%s on port %s", m.lookOf(r).words, r.place), room)
		}
	}
	rows = draw.Fill(rows, w, h-1)
	return append(rows, th.Line(w).Put(th.Faint, keys).String())
}

// status is a job in one sentence.
func (j *job) status(m *Model) string {
	switch j.phase {
	case phaseDone:
		return fmt.Sprintf("%s %s: done in %s", m.th.Sym.Free, j.title(), short(j.ended.Sub(j.started)))
	case phaseFailed:
		return fmt.Sprintf("%s %s: %s", m.th.Sym.Refused, j.title(), j.err)
	case phaseStopped:
		return fmt.Sprintf("%s: you stopped waiting; %s", j.title(), j.done())
	case phaseLaunch:
		return fmt.Sprintf("%s starting the gateway on %s", m.th.Sym.Running, j.place())
	}
	for i := range j.steps {
		if s := &j.steps[i]; s.state == stepRunning {
			return fmt.Sprintf("%s %s, %.1f s", m.th.Sym.Running, s.Text, max(0, m.at().Sub(j.since(m.at())).Seconds()))
		}
	}
	return j.title()
}
