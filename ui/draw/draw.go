// Package draw builds rows of a terminal screen from text and styles. It is
// pure and width-exact: every row it returns has as many cells as was asked
// for, whatever the text was. It knows nothing of berth.
//
// A page is a slice of rows. Line builds one, Box frames several, Beside and
// Overlay compose them:
//
//	row := draw.NewLine(40, false).Put(red, "✗ ").Col("", name, 20).String()
//	box := draw.Box{Border: round, Title: title}.Draw(40, 10, rows)
package draw

import (
	"math"
	"strconv"
	"strings"

	"github.com/charmbracelet/x/ansi"
)

// Style is the SGR sequence that switches a look on. The empty style is
// plain text. Styles add up by concatenation.
type Style string

const reset = "\x1b[0m"

// SGR returns the style of the given SGR parameters (ECMA-48, 8.3.117).
func SGR(codes ...int) Style {
	if len(codes) == 0 {
		return ""
	}
	parts := make([]string, len(codes))
	for i, c := range codes {
		parts[i] = strconv.Itoa(c)
	}
	return Style("\x1b[" + strings.Join(parts, ";") + "m")
}

// Span is a piece of text in one style.
type Span struct {
	Style Style
	Text  string
}

// Bar names the glyphs of a bar, each one cell. Parts are the partly filled
// cells in ascending order and may be empty.
type Bar struct {
	Full  string
	Parts []string
	Track string
}

// Level returns the glyph for v on a scale of 0 to top: levels[0] only for
// zero, so that one socket among a thousand is still seen.
func Level(levels []string, v, top int) string {
	if v <= 0 || len(levels) < 2 {
		return levels[0]
	}
	n := len(levels) - 1
	return levels[min(1+(v*n-1)/max(top, 1), n)]
}

// Border names the glyphs of a frame, each one cell.
type Border struct {
	TopLeft, Top, TopRight, Left, Right, BottomLeft, Bottom, BottomRight string
}

// Box is a frame with a title at the left of its upper edge and a note at the
// right. If both do not fit, the note goes.
type Box struct {
	Border Border
	Style  Style
	Title  []Span
	Right  []Span
	ASCII  bool
}

// Draw frames body, whose rows must be w-2 cells wide. It returns exactly h
// rows of w cells: missing rows are blank, surplus ones are dropped. Below
// 2×2 there is no room for a frame and the result is blank.
func (b Box) Draw(w, h int, body []string) []string {
	out := make([]string, 0, max(h, 0))
	if w < 2 || h < 2 {
		return Blank(w, h)
	}
	out = append(out, b.top(w))
	left := NewLine(1, b.ASCII).Repeat(b.Style, b.Border.Left, 1).String()
	right := NewLine(1, b.ASCII).Repeat(b.Style, b.Border.Right, 1).String()
	blank := strings.Repeat(" ", w-2)
	for i := range h - 2 {
		row := blank
		if i < len(body) {
			row = body[i]
		}
		out = append(out, left+row+right)
	}
	return append(out, NewLine(w, b.ASCII).Repeat(b.Style, b.Border.BottomLeft, 1).Repeat(b.Style, b.Border.Bottom, w-2).Repeat(b.Style, b.Border.BottomRight, 1).String())
}

func (b Box) top(w int) string {
	l := NewLine(w, b.ASCII).Repeat(b.Style, b.Border.TopLeft, 1)
	if len(b.Title) > 0 && w >= 8 {
		l.Repeat(b.Style, b.Border.Top, 1).Gap(1)
		room := NewLine(w-6, b.ASCII).Spans(b.Title...)
		l.join(room)
		l.Gap(1)
	}
	if right := SpansWidth(b.Right, b.ASCII); right > 0 && right+4 <= l.Room() {
		l.Repeat(b.Style, b.Border.Top, l.Room()-right-4).Gap(1).Spans(b.Right...).Gap(1)
	}
	return l.Repeat(b.Style, b.Border.Top, l.Room()-1).Repeat(b.Style, b.Border.TopRight, 1).String()
}

// join appends what another line holds, without its padding.
func (l *Line) join(o *Line) {
	l.style("")
	l.buf = append(l.buf, o.Trim()...)
	l.cells += o.cells
}

// SpansWidth returns how many cells the spans take.
func SpansWidth(spans []Span, ascii bool) int {
	n := 0
	for _, s := range spans {
		n += Width(clean(s.Text, math.MaxInt, ascii))
	}
	return n
}

// Blank returns h empty rows of w cells.
func Blank(w, h int) []string {
	rows := make([]string, max(h, 0))
	blank := strings.Repeat(" ", max(w, 0))
	for i := range rows {
		rows[i] = blank
	}
	return rows
}

// Fill makes rows exactly h long, with blank rows of w cells or by dropping.
func Fill(rows []string, w, h int) []string {
	if len(rows) >= h {
		return rows[:max(h, 0)]
	}
	return append(rows, Blank(w, h-len(rows))...)
}

// Beside puts two blocks of the same height next to each other.
func Beside(a, b []string) []string {
	out := make([]string, min(len(a), len(b)))
	for i := range out {
		out[i] = a[i] + b[i]
	}
	return out
}

// Overlay draws top over base with its corner at cell x, row y. Both must be
// blocks of rows of equal width, and top must lie inside base.
func Overlay(base, top []string, x, y int) []string {
	out := append([]string(nil), base...)
	for i, row := range top {
		if y+i < 0 || y+i >= len(out) {
			continue
		}
		under := out[y+i]
		w, total := ansi.StringWidth(row), ansi.StringWidth(under)
		left := ansi.Truncate(under, x, "")
		// A wide character that is cut in two leaves a cell to fill.
		left += strings.Repeat(" ", x-ansi.StringWidth(left))
		right := ""
		if x+w < total {
			right = end(under, total, total-x-w)
			right = strings.Repeat(" ", total-x-w-ansi.StringWidth(right)) + right
		}
		out[y+i] = left + reset + row + right
	}
	return out
}

// Wrap cleans s and breaks it into lines of at most w cells between words,
// or within a word that is longer than a line. At most limit lines are
// returned; if there is more, the last one ends in an ellipsis.
func Wrap(s string, w, limit int, ascii bool) []string {
	if w <= 0 || limit <= 0 {
		return nil
	}
	var lines []string
	line, used := "", 0
	flush := func() { lines = append(lines, line); line, used = "", 0 }
	for _, word := range strings.Fields(clean(s, (w+1)*(limit+1), ascii)) {
		n := Width(word)
		if used > 0 && used+1+n > w {
			flush()
		}
		for n > w { // A word that is longer than any line.
			part := ansi.Truncate(word, w, "")
			if part == "" {
				return lines // Not even one wide character fits.
			}
			line, used = part, w
			word = word[len(part):]
			n = Width(word)
			flush()
			if len(lines) > limit {
				break
			}
		}
		if used > 0 {
			line += " "
			used++
		}
		line += word
		used += n
		if len(lines) > limit {
			break
		}
	}
	if used > 0 {
		flush()
	}
	if len(lines) > limit {
		last := lines[limit-1]
		if Width(last) >= w {
			last = ansi.Truncate(last, w-1, "")
		}
		tail := "…"
		if ascii {
			tail = "~"
		}
		lines = append(lines[:limit-1], last+tail)
	}
	return lines
}
