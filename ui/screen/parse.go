package screen

import (
	"strconv"
	"strings"

	"github.com/charmbracelet/x/ansi"
)

// Parse draws view on an empty screen of width×height cells, as bubbletea
// does: line by line from the top left, and what does not fit is left out (and
// noted in Grid.Cut).
//
// Understood are text, line feeds and SGR sequences with the sixteen colours
// and the attributes of Attr. Every other sequence, control character and SGR
// parameter (256 and RGB colours too) has no effect. Bytes that are not UTF-8
// become U+FFFD.
func Parse(view string, width, height int) Grid {
	width, height = max(width, 0), max(height, 0)
	g := Grid{Width: width, Height: height, Cells: make([]Cell, width*height)}
	for i := range g.Cells {
		g.Cells[i].Text = " "
	}
	view = strings.ToValidUTF8(view, "\uFFFD")
	var style Style
	x, y := 0, 0
	for len(view) > 0 {
		seq, w := first(view)
		view = view[len(seq):]
		switch {
		case seq == "\n":
			x, y = 0, y+1
		case strings.HasPrefix(seq, "\x1b["):
			style = style.sgr(seq)
		case w == 0: // Other sequences, control characters, marks with nothing to mark.
		case y >= height || x+w > width:
			g.Cut = true
			x = width
		default:
			row := g.Row(y)
			row[x] = Cell{Text: seq, Style: style}
			for i := 1; i < w; i++ {
				row[x+i] = Cell{Style: style}
			}
			x += w
		}
	}
	return g
}

// first returns the first sequence, control character or grapheme cluster of
// s, and how many cells it takes.
func first(s string) (seq string, width int) {
	if ' ' <= s[0] && s[0] <= '~' {
		// The decoder would return this byte without the marks after it.
		return ansi.FirstGraphemeCluster(s, ansi.GraphemeWidth)
	}
	// No parser is passed: that of x/ansi v0.11.9 panics when a sequence has
	// more parameters than it has room for.
	seq, width, n, _ := ansi.DecodeSequence(s, ansi.NormalState, nil)
	return s[:max(n, len(seq), 1)], width
}

// sgr returns s after the sequence seq, which begins with CSI. Anything but
// a plain SGR sequence changes nothing.
func (s Style) sgr(seq string) Style {
	params, ok := strings.CutSuffix(seq[2:], "m")
	if !ok || strings.Trim(params, "0123456789;:") != "" {
		return s
	}
	list := strings.Split(params, ";")
	for len(list) > 0 {
		p, sub, _ := strings.Cut(list[0], ":")
		list = list[1:]
		n := number(p)
		if n == 38 || n == 48 || n == 58 {
			// 38;5;N and 38;2;R;G;B: skip the colour, not only the 38.
			// With colons all of it is one parameter.
			if sub == "" && len(list) > 0 {
				list = list[min(extended(list[0]), len(list)):]
			}
			continue
		}
		if n == 4 && sub == "0" { // 4:0 is "no underline", 4:1 to 4:5 are its kinds.
			n = 24
		}
		s = s.apply(n)
	}
	return s
}

// extended returns how many parameters follow a 38 or 48 whose first is kind,
// which is one of them.
func extended(kind string) int {
	switch number(kind) {
	case 2:
		return 4
	case 5:
		return 2
	}
	return 1
}

// number reads an SGR parameter; a missing one counts as 0 and one beyond
// every known meaning as -1.
func number(s string) int {
	if s == "" {
		return 0
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		return -1
	}
	return n
}

// apply returns s after SGR parameter n (ECMA-48 8.3.117, and aixterm's 90-97
// and 100-107 for the bright colours).
func (s Style) apply(n int) Style {
	switch {
	case n == 0:
		return Style{}
	case n == 1:
		s.Attr |= Bold
	case n == 2:
		s.Attr |= Faint
	case n == 3:
		s.Attr |= Italic
	case n == 4 || n == 21:
		s.Attr |= Underline
	case n == 7:
		s.Attr |= Reverse
	case n == 9:
		s.Attr |= Strike
	case n == 22:
		s.Attr &^= Bold | Faint
	case n == 23:
		s.Attr &^= Italic
	case n == 24:
		s.Attr &^= Underline
	case n == 27:
		s.Attr &^= Reverse
	case n == 29:
		s.Attr &^= Strike
	case 30 <= n && n <= 37:
		s.FG = Black + Color(n-30)
	case n == 39:
		s.FG = Default
	case 40 <= n && n <= 47:
		s.BG = Black + Color(n-40)
	case n == 49:
		s.BG = Default
	case 90 <= n && n <= 97:
		s.FG = BrightBlack + Color(n-90)
	case 100 <= n && n <= 107:
		s.BG = BrightBlack + Color(n-100)
	}
	return s
}
