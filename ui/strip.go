package ui

import (
	"fmt"
	"time"

	"berth/netstate"
	"berth/ui/draw"
	"berth/ui/theme"
)

// strip draws a port's past as four lines over one axis of time: the moment
// in which LISTEN hands over to TIME-WAIT, and the one in which the bind
// turns from ✗ to ✓, can be seen under each other.
//
//	LISTEN     ●━━━━━━━━━━━━━━━━━━━━━━●                        0
//	ESTAB      ▂▂▃▃▅▅▅▅▅▅▅▅▅▅▅▅▅▅▅▅▅▅··················        0
//	TIME-WAIT  ·······················▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇       15
//	BIND       ✗━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━✓─────  ✓ bindable
type strip struct {
	track *track
	from  time.Time     // the beginning of the first column
	step  time.Duration // the length of a column
	cols  int
	now   time.Time // columns after it are blank
	zero  time.Time // the 0 of the axis
}

const (
	stripLabel = 11 // cells of the label
	stripValue = 11 // cells of the value at the end
)

// lately is the strip of the last stretch of time before now. Its columns
// begin at whole steps, so that all of it moves at once, a column at a time.
func lately(t *track, now time.Time, total time.Duration, cols int) strip {
	step := total / time.Duration(cols)
	from := now.Truncate(step).Add(-step * time.Duration(cols-1))
	return strip{track: t, from: from, step: step, cols: cols, now: now, zero: from.Add(total)}
}

// at returns what a column shows. What lasted less than a column must not fall
// between two of them: a restart in 40 ms is the very thing to be seen. So a
// column shows the fewest listeners and the most of the others that there were
// in it, and a bind that succeeded for a moment.
func (s strip) at(col int) (sample, bool) {
	begin := s.from.Add(time.Duration(col) * s.step)
	if begin.After(s.now) {
		return sample{}, false
	}
	end := begin.Add(s.step - 1)
	if end.After(s.now) {
		end = s.now
	}
	all := s.track.during(begin, end)
	if len(all) == 0 {
		return sample{}, false
	}
	p := all[len(all)-1]
	if p.gap {
		return p, false
	}
	for _, o := range all[:len(all)-1] {
		if o.gap {
			continue
		}
		p.listen = min(p.listen, o.listen)
		p.estab = max(p.estab, o.estab)
		p.wait = max(p.wait, o.wait)
		if o.bind == netstate.Yes {
			p.bind = netstate.Yes
		}
	}
	return p, true
}

// rows draws the strip in w cells.
func (s strip) rows(th theme.Theme, w int) []string {
	now, known := s.track.when(s.now)
	value := func(n int, st draw.Style) draw.Span {
		if !known {
			return draw.Span{Style: th.Faint, Text: "?"}
		}
		if n == 0 {
			return draw.Span{Style: th.Faint, Text: "0"}
		}
		return draw.Span{Style: st, Text: fmt.Sprint(n)}
	}
	begin := func(label string) *draw.Line { return th.Line(w).Gap(1).Col("", label, stripLabel) }
	end := func(l *draw.Line, v draw.Span) string {
		return l.To(1+stripLabel+s.cols+1).Put(v.Style, v.Text).String()
	}
	l := begin("LISTEN")
	s.line(l, func(p sample) (string, draw.Style, string) {
		if p.listen == 0 {
			return "", th.Faint, th.Sym.Dot
		}
		return th.Sym.Listen, th.Listen, th.Sym.Thick
	})
	out := []string{end(l, value(now.listen, th.Listen))}
	l = begin("ESTAB")
	s.levels(th, l, th.Estab, func(p sample) int { return p.estab })
	out = append(out, end(l, value(now.estab, th.Estab)))
	l = begin("TIME-WAIT")
	s.levels(th, l, th.Waiting, func(p sample) int { return p.wait })
	out = append(out, end(l, value(now.wait, th.Waiting)))
	l = begin("BIND")
	s.line(l, func(p sample) (string, draw.Style, string) {
		switch p.bind {
		case netstate.Yes:
			return th.Sym.MarkFree, th.Free, th.Sym.Thin
		case netstate.No:
			return th.Sym.MarkRefused, th.Refused, th.Sym.Thick
		}
		return "", th.Faint, th.Sym.Dot
	})
	last := draw.Span{Style: th.Faint, Text: "?"}
	if known {
		switch now.bind {
		case netstate.Yes:
			last = draw.Span{Style: th.Free, Text: th.Sym.Free + " bindable"}
		case netstate.No:
			word := " refused"
			if now.listen > 0 {
				word = " taken" // by who listens, which is as it should be
			}
			last = draw.Span{Style: th.Refused, Text: th.Sym.Refused + word}
		}
	}
	return append(out, end(l, last))
}

// line draws stretches of time, each with a mark where it begins.
func (s strip) line(l *draw.Line, glyph func(sample) (mark string, st draw.Style, fill string)) {
	before := ""
	for c := range s.cols {
		p, ok := s.at(c)
		if !ok {
			l.Gap(1)
			before = ""
			continue
		}
		mark, st, fill := glyph(p)
		if mark != "" && fill != before {
			l.Put(st, mark)
		} else {
			l.Repeat(st, fill, 1)
		}
		before = fill
	}
}

// levels draws a number over time, scaled to its largest value.
func (s strip) levels(th theme.Theme, l *draw.Line, st draw.Style, number func(sample) int) {
	values := make([]int, s.cols)
	top := 1
	for c := range values {
		values[c] = -1 // not known
		if p, ok := s.at(c); ok {
			values[c] = number(p)
			top = max(top, values[c])
		}
	}
	for _, v := range values {
		switch {
		case v < 0:
			l.Gap(1)
		case v == 0:
			l.Repeat(th.Faint, th.Sym.Levels[0], 1)
		default:
			l.Repeat(st, draw.Level(th.Sym.Levels, v, top), 1)
		}
	}
}

// axis draws the scale under the strip.
func (s strip) axis(th theme.Theme, w int) string {
	l := th.Line(w)
	for i := range 4 {
		col := s.cols * i / 4
		l.To(1+stripLabel+col).Put(th.Faint, seconds(s.from.Add(time.Duration(col)*s.step).Sub(s.zero)))
	}
	last := seconds(s.from.Add(time.Duration(s.cols) * s.step).Sub(s.zero))
	if last == "0 s" {
		last = "now"
	}
	return l.To(1+stripLabel+s.cols-len(last)).Put(th.Faint, last).String()
}

// seconds prints a place on an axis of time.
func seconds(d time.Duration) string {
	if r := d.Round(time.Second); (d-r).Abs() < 50*time.Millisecond || d.Abs() >= 10*time.Second {
		return fmt.Sprintf("%d s", int(r.Seconds()))
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}
