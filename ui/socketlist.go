package ui

import (
	"fmt"
	"net/netip"

	"berth/netstate"
	"berth/ui/draw"
)

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

// listRows is how many sockets a box of h rows shows.
func (p *portPage) listRows(w, h int) int {
	h -= 2
	if p.waiting && (p.row.clears.IsZero() || w >= 80 && h >= 4) {
		h-- // the scale, or the note that there is none
	}
	return h
}

// sockets draws the list: TIME-WAIT sockets with their countdowns, or the others
// if nothing lingers.
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
