package ui

import (
	"fmt"

	"berth/netstate"
	"berth/ui/draw"
)

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
		if i == 0 || !sameAddress(v.Matrix[i].Spec, v.Matrix[i-1].Spec) {
			n++
		}
	}
	return n
}

func sameAddress(a, b netstate.BindSpec) bool {
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
		if i == 0 || !sameAddress(c.Spec, v.Matrix[i-1].Spec) {
			if l != nil {
				body = append(body, l.String())
			}
			l = th.Line(in).Gap(1).Col("", draw.Middle(hostText(c.Spec), label-1, th.ASCII), label)
		}
		glyph, word, st := th.Sym.None, "unsure", th.Faint
		switch c.Bindable {
		case netstate.Yes:
			glyph, word, st = th.Sym.Free, "free", th.Free
		case netstate.No:
			glyph, word, st = th.Sym.Refused, "in use", th.Refused
		}
		is := !asked && sameAddress(c.Spec, v.Spec) && c.Spec.ReuseAddr == v.Spec.ReuseAddr && c.Spec.ReusePort == v.Spec.ReusePort
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

// hostText names an address of the matrix.
func hostText(b netstate.BindSpec) string {
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
		detailed := i == p.holds.at && full > 1
		body = append(body, p.holderRow(m, &p.holders[i], in, i == p.holds.at, detailed))
		if detailed {
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

// holderRow tells a holder in one row. If details follow, they name its
// container.
func (p *portPage) holderRow(m *Model, h *netstate.Holder, w int, cursor, detailed bool) string {
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
	l.Put(th.Strong, name).Gap(1).Put("", fmt.Sprintf("pid %d", h.ID.PID)).Gap(2)
	if detailed {
		l.Put("", user(*h, m.opts.User))
	} else {
		l.Put("", from(*h, m.opts.User))
	}
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
	add("inside", h.Container, 1)
	add("command", command(h.Cmdline), 2)
	if h.Container == "" {
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
