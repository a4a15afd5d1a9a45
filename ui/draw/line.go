package draw

import (
	"math"
	"unicode/utf8"

	"github.com/charmbracelet/x/ansi"
)

// Line builds one row of the screen that is exactly max cells wide. Text is
// cleaned on its way in, so nothing that another process chose can move the
// cursor, and what does not fit is cut with an ellipsis between graphemes.
// Looks are written as SGR sequences directly: a style library that lays out
// every cell costs more than everything else on the page.
type Line struct {
	buf   []byte
	cells int
	max   int
	ascii bool
	base  Style
	on    Style
}

// NewLine starts a line of max cells. With ascii, every character is spelt
// in ASCII.
func NewLine(max int, ascii bool) *Line {
	return &Line{buf: make([]byte, 0, 2*max+32), max: max, ascii: ascii}
}

// Base sets a style that lies under every style of the line from here on.
func (l *Line) Base(st Style) *Line { l.base = st; return l }

// Room returns how many cells are still empty.
func (l *Line) Room() int { return l.max - l.cells }

// Cells returns how many cells are written.
func (l *Line) Cells() int { return l.cells }

// Put writes as much of s as there is room for.
func (l *Line) Put(st Style, s string) *Line {
	l.text(st, s, l.Room())
	return l
}

// Spans writes one span after the other.
func (l *Line) Spans(spans ...Span) *Line {
	for _, s := range spans {
		l.Put(s.Style, s.Text)
	}
	return l
}

// Col writes s into exactly w cells, from the left.
func (l *Line) Col(st Style, s string, w int) *Line {
	w = min(w, l.Room())
	return l.Gap(w - l.text(st, s, w))
}

// ColRight writes s into exactly w cells, from the right.
func (l *Line) ColRight(st Style, s string, w int) *Line {
	w = min(w, l.Room())
	s = l.fit(s, w)
	l.Gap(w - Width(s))
	l.raw(st, s, Width(s))
	return l
}

// Gap writes n spaces.
func (l *Line) Gap(n int) *Line {
	n = min(n, l.Room())
	if n > 0 {
		l.style("")
		for range n {
			l.buf = append(l.buf, ' ')
		}
		l.cells += n
	}
	return l
}

// To pads with spaces up to the given cell.
func (l *Line) To(cell int) *Line { return l.Gap(cell - l.cells) }

// Repeat writes a one-cell glyph n times.
func (l *Line) Repeat(st Style, glyph string, n int) *Line {
	n = min(n, l.Room())
	if n <= 0 {
		return l
	}
	l.style(st)
	for range n {
		l.buf = append(l.buf, glyph...)
	}
	l.cells += n
	return l
}

// End writes spans against the right edge. They are left out as a whole if
// they do not fit: half of a clock or of a key is worse than none.
func (l *Line) End(spans ...Span) *Line {
	w := 0
	for _, s := range spans {
		w += Width(clean(s.Text, math.MaxInt, l.ascii))
	}
	if w > l.Room() {
		return l
	}
	return l.To(l.max - w).Spans(spans...)
}

// Bar writes a bar of w cells that is full at fraction 1. The last cell is
// drawn in as many parts as the glyphs have, so that a bar of 40 cells that
// drains for a minute moves five times a second and not once in 1.5 s.
func (l *Line) Bar(on, off Style, g Bar, fraction float64, w int) *Line {
	w = min(w, l.Room())
	if w <= 0 {
		return l
	}
	steps := len(g.Parts) + 1
	n := int(min(max(fraction, 0), 1)*float64(w*steps) + 0.5)
	if n == 0 && fraction > 0 {
		n = 1 // Something is left: an empty bar would say that it is over.
	}
	full := n / steps
	if steps == 1 {
		full = n
	}
	l.Repeat(on, g.Full, full)
	if part := n % steps; part > 0 {
		l.Repeat(on, g.Parts[part-1], 1)
		full++
	}
	return l.Repeat(off, g.Track, w-full)
}

// String returns the line, padded to its full width.
func (l *Line) String() string {
	l.Gap(l.Room())
	l.style("")
	if l.on != "" { // The base style is still on.
		l.buf = append(l.buf, reset...)
		l.on = ""
	}
	return string(l.buf)
}

// Trim returns the line without padding.
func (l *Line) Trim() string {
	if l.on != "" {
		l.buf = append(l.buf, reset...)
		l.on = ""
	}
	return string(l.buf)
}

// text writes s in at most w cells and returns how many it used.
func (l *Line) text(st Style, s string, w int) int {
	if s == "" || w <= 0 {
		return 0
	}
	s = l.fit(s, w)
	n := Width(s)
	l.raw(st, s, n)
	return n
}

// fit cleans s and cuts it to w cells.
func (l *Line) fit(s string, w int) string { return Fit(s, w, l.ascii) }

func (l *Line) raw(st Style, s string, cells int) {
	if cells > 0 {
		l.style(st)
		l.buf = append(l.buf, s...)
		l.cells += cells
	}
}

// style switches to st on top of the base, writing nothing if it is on.
func (l *Line) style(st Style) {
	want := l.base + st
	if want == l.on {
		return
	}
	if l.on != "" {
		l.buf = append(l.buf, reset...)
	}
	l.buf = append(l.buf, want...)
	l.on = want
}

// Fit cleans s and cuts it to w cells.
func Fit(s string, w int, ascii bool) string { return Cut(clean(s, w, ascii), w, ascii) }

// Cut shortens clean text to w cells, with an ellipsis if something was lost.
func Cut(s string, w int, ascii bool) string {
	if w <= 0 {
		return ""
	}
	if len(s) <= w || Width(s) <= w {
		return s
	}
	tail := "…"
	if ascii {
		tail = "~"
	}
	if _, ok := plain(s); ok {
		i := 0
		for range w - 1 {
			_, size := utf8.DecodeRuneInString(s[i:])
			i += size
		}
		return s[:i] + tail
	}
	return ansi.Truncate(s, w, tail)
}

// Middle shortens clean text to w cells by taking its middle out: of an
// address, both the network and the port say more than what is between.
func Middle(s string, w int, ascii bool) string {
	n := Width(s)
	if n <= w {
		return s
	}
	if w < 5 {
		return Cut(s, w, ascii)
	}
	tail := "…"
	if ascii {
		tail = "~"
	}
	left := (w - 1) / 2
	return ansi.Truncate(s, left, "") + tail + end(s, n, w-1-left)
}

// end returns the last w cells of s, which has n. A wide character that would
// be cut in two is left out.
func end(s string, n, w int) string {
	e := ansi.TruncateLeft(s, n-w, "")
	if ansi.StringWidth(e) > w {
		e = ansi.TruncateLeft(s, n-w+1, "")
	}
	return e
}
