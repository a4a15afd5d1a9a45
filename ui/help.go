package ui

import (
	"berth/ui/draw"
)

// helpPage is the overlay that names every key of the page under it. It is
// made from the key table, so it cannot name a key that does nothing.
type helpPage struct {
	open bool
	top  int
}

func (hp *helpPage) key(m *Model, key string) {
	switch a := lookup(key, m.page); a {
	case actHelp, actBack, actQuit:
		hp.open = false
	default:
		s := scroll{at: hp.top}
		rows, room := hp.size(m)
		if s.move(a, rows-room+1, room) {
			hp.top = s.at
		}
	}
}

// size returns how many rows there are, and how many fit.
func (hp *helpPage) size(m *Model) (rows, room int) {
	rows = len(hp.rows(m, hp.width(m)-2))
	return rows, max(min(rows, m.height-2), 1)
}

func (hp *helpPage) width(m *Model) int {
	if m.width < 60 {
		return m.width
	}
	return min(m.width-4, 96)
}

func (hp *helpPage) settle(m *Model) {
	if hp.open && !m.tooSmall() {
		rows, room := hp.size(m)
		hp.top = max(min(hp.top, rows-room), 0)
	}
}

// view lays the help over the page.
func (hp *helpPage) view(m *Model, page []string) []string {
	th, w := m.th, hp.width(m)
	rows, room := hp.size(m)
	title := []draw.Span{{Style: th.Strong, Text: "Help"}}
	if m.opts.Version != "" {
		title = append(title, draw.Span{Style: th.Faint, Text: " · berth " + m.opts.Version})
	}
	box := th.HeavyBox("", title...)
	box.Right = []draw.Span{{Style: th.Faint, Text: "esc closes"}}
	if rows > room {
		box.Right[0].Text = "↑ ↓ scroll · esc closes"
		if w < 50 {
			box.Right[0].Text = "↑ ↓ · esc"
		}
	}
	over := box.Draw(w, room+2, hp.rows(m, w-2)[min(hp.top, rows-room):])
	return draw.Overlay(m.dim(page), over, (m.width-w)/2, max((m.height-len(over))/2, 0))
}

// rows draws the keys in as many columns as there is room for, then what the
// glyphs and the states mean.
func (hp *helpPage) rows(m *Model, w int) []string {
	th := m.th
	var groups [3][]string
	titles := [3]string{"MOVE", "LOOK", "ACT"}
	cols := 1
	switch {
	case w >= 90:
		cols = 3
	case w >= 56:
		cols = 2
	}
	colW := w / cols
	for g := range groups {
		groups[g] = append(groups[g], th.Line(colW).Gap(1).Put(th.Strong, titles[g]).String())
	}
	for i := range table {
		b := &table[i]
		if b.on&m.page == 0 {
			continue
		}
		l := th.Line(colW).Gap(1).Col(th.Strong, b.show, 8).Gap(1).Put("", b.help)
		groups[b.group] = append(groups[b.group], l.String())
	}
	var rows []string
	switch cols {
	case 3:
		rows = hp.columns(w, colW, groups[0], groups[1], groups[2])
	case 2:
		blank := th.Line(colW).String()
		right := append(append(append([]string{}, groups[1]...), blank), groups[2]...)
		rows = hp.columns(w, colW, groups[0], right)
	default:
		for _, g := range groups {
			rows = append(append(rows, g...), th.Line(w).String())
		}
	}
	say := func(spans ...draw.Span) { rows = append(rows, th.Line(w).Gap(1).Spans(spans...).String()) }
	text := func(s string) {
		for _, t := range th.Wrap(s, w-2, 4) {
			say(draw.Span{Text: t})
		}
	}
	if cols > 1 {
		rows = append(rows, th.Line(w).String())
	}
	say(draw.Span{Style: th.Strong, Text: "SIGNS"})
	var line *draw.Line
	for _, e := range []draw.Span{
		{Style: th.Free, Text: th.Sym.Free + " can be bound"}, {Style: th.Refused, Text: th.Sym.Refused + " is refused"},
		{Style: th.Listen, Text: th.Sym.Listen + " LISTEN"}, {Style: th.Estab, Text: th.Sym.Estab + " ESTAB"},
		{Style: th.Waiting, Text: th.Sym.Waiting + " TIME-WAIT"}, {Style: th.Free, Text: th.Sym.Started + " the gateway's port"},
		{Style: th.Warn, Text: th.Sym.Warn + " look at this"}, {Text: "… asks before it acts"},
	} {
		if line == nil || line.Room() < draw.Width(e.Text)+3 {
			if line != nil {
				rows = append(rows, line.String())
			}
			line = th.Line(w).Gap(1)
		}
		line.Spans(e).Gap(3)
	}
	rows = append(rows, line.String(), th.Line(w).String())
	say(draw.Span{Style: th.Strong, Text: "STATES"})
	text("LISTEN: a process accepts connections here. TIME-WAIT: the kernel remembers a closed connection for 60 s (Linux), so that its late packets die; it refuses only a bind without SO_REUSEADDR on one of the two sides. CLOSE-WAIT: the peer has closed, the program has not.")
	text("For a screen reader the verbs (berth list, why, free, wait) say the same as lines of text.")
	if m.shown.Snapshot != nil {
		for _, n := range m.shown.Snapshot.Caps.Notes {
			text(th.Sym.Warn + " " + n)
		}
		if m.shown.Note != "" {
			text(th.Sym.Warn + " " + m.shown.Note)
		}
	}
	return rows
}

// columns puts lists of rows side by side.
func (hp *helpPage) columns(w, colW int, lists ...[]string) []string {
	n := 0
	for _, l := range lists {
		n = max(n, len(l))
	}
	out := draw.Blank(0, n)
	for _, l := range lists {
		out = draw.Beside(out, draw.Fill(append([]string(nil), l...), colW, n))
	}
	pad := draw.Blank(w-colW*len(lists), n)
	return draw.Beside(out, pad)
}
