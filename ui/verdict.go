package ui

import (
	"berth/netstate"
	"berth/ui/draw"
)

// look is how an answer to "can I bind?" appears: a glyph, the word for a
// column, a shorter one for a narrow terminal, the word in capitals for the
// page, and the style of its kind.
type look struct {
	glyph, words, word, loud string
	style                    draw.Style
}

// lookOf returns the look of a row's verdict. A port on which nothing is and
// that nobody has asked about is not called free: only a bind or a rule says.
func (m *Model) lookOf(r *portRow) look {
	if r.verdict != nil {
		return m.lookOfVerdict(r.verdict)
	}
	if len(r.sockets) == 0 {
		return look{m.th.Sym.None, "nothing there", "nothing", "NOTHING THERE", m.th.Faint}
	}
	return look{m.th.Sym.None, "not judged", "unknown", "NOT JUDGED", m.th.Faint}
}

func (m *Model) lookOfVerdict(v *netstate.Verdict) look {
	th := m.th
	refused := func(words, word, loud string) look {
		return look{th.Sym.Refused, words, word, loud, th.Refused}
	}
	switch {
	case v.Bindable && v.Unsure:
		return look{th.Sym.Free, "likely free", "likely", "LIKELY FREE", th.Free}
	case v.Bindable:
		return look{th.Sym.Free, "free", "free", "FREE", th.Free}
	}
	switch v.Reason {
	case netstate.ReasonHeld:
		return refused("held by a listener", "held", "HELD")
	case netstate.ReasonBound:
		return refused("bound, no listener", "bound", "BOUND")
	case netstate.ReasonInUse:
		return refused("a live connection", "in use", "IN USE")
	case netstate.ReasonLingering:
		return look{th.Sym.Waiting, "held by the kernel", "lingering", "LINGERING", th.Waiting}
	case netstate.ReasonDenied:
		return look{th.Sym.Warn, "not permitted", "denied", "NOT PERMITTED", th.Refused}
	case netstate.ReasonNoAddress:
		return look{th.Sym.Warn, "no such address", "no address", "NO SUCH ADDRESS", th.Refused}
	}
	return refused("cause hidden", "refused", "REFUSED")
}

// evidence says what a verdict rests on, for the edge of its box.
func evidence(v *netstate.Verdict, w int) string {
	real := v.Evidence == netstate.EvidenceBind
	switch {
	case real && w < 80:
		return "by a real bind"
	case real:
		return "by a real bind at " + clock(v.At)
	case w < 80:
		return "by the rules"
	}
	return "by the rules, no bind made"
}

// answer draws a verdict in words: the sentence, then until when if it ends
// by itself, then what helps, in at most h rows of w cells. With loud, the
// kind of the answer stands before the sentence in capitals.
func (m *Model) answer(v *netstate.Verdict, w, h int, loud bool) []string {
	th, k := m.th, m.lookOfVerdict(v)
	head := k.glyph + " "
	if loud {
		head += k.loud + "  "
	}
	indent := 1 + draw.Width(head)
	if w-indent < 24 {
		head, indent = k.glyph+" ", 1+draw.Width(k.glyph)+1
	}
	rows := make([]string, 0, h)
	sentence := h
	if h > 2 {
		sentence = min(h-1, 3)
	}
	for i, t := range th.Wrap(v.Summary, w-indent-1, sentence) {
		l := th.Line(w).Gap(1)
		if i == 0 {
			l.Put(k.style, head)
		}
		rows = append(rows, l.To(indent).Put(th.Strong, t).String())
	}
	if v.Clears.Known() && !v.Bindable && len(rows) < h {
		rows = append(rows, m.drain(v, w, indent))
	}
	label, keyed := "fix", false
	for i := range v.Cures {
		keyed = keyed || m.cureKey(v.Cures[i].Action) != ""
	}
	for i := range v.Cures {
		c := &v.Cures[i]
		if len(rows) >= h {
			return rows
		}
		l := th.Line(w).Gap(indent).Put(th.Faint, label).To(indent + 4)
		label = "or"
		key := m.cureKey(c.Action)
		if key != "" {
			l.Put(th.Selected, " "+key+" ")
		}
		if keyed {
			l.To(indent + 8)
		}
		l.Put("", c.Text)
		if key == "" && w >= 78 && c.Command != "" {
			l.End(draw.Span{Style: th.Faint, Text: "  " + c.Command + " "})
		}
		rows = append(rows, l.String())
	}
	if v.Note != "" && len(rows) < h {
		for _, t := range th.Wrap(v.Note, w-indent-1, h-len(rows)) {
			rows = append(rows, th.Line(w).Gap(indent).Put(th.Warn, t).String())
		}
	}
	return rows
}

// drain draws the time until a refusal ends by itself.
func (m *Model) drain(v *netstate.Verdict, w, indent int) string {
	th := m.th
	l := th.Line(w).Gap(indent).Put(th.Faint, "clears in ").ColRight(th.Waiting, tenths(v.Clears.From, m.at()), 7).Gap(2)
	bar := min(l.Room()-13, 40)
	l.Bar(th.Waiting, th.Faint, th.Sym.Bar, fraction(v.Clears.From, m.at(), timeWaitScale), bar)
	return l.End(draw.Span{Style: th.Faint, Text: " at " + clock(v.Clears.From) + " "}).String()
}

// cureKey returns the key that begins a cure on the page that is open, or "".
func (m *Model) cureKey(a netstate.CureAction) string {
	act := actNone
	switch a {
	case netstate.CureStop:
		act = actReclaim
	case netstate.CureDestroy:
		act = actDestroy
	}
	for i := range table {
		if b := &table[i]; act != actNone && b.act == act && b.on&m.page != 0 {
			return b.show
		}
	}
	return ""
}
