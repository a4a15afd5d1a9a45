package screen

import (
	"cmp"
	"encoding/xml"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// mark is the smallest thing that is drawn: a bar, a line, a piece of text.
type mark struct {
	// under says that the mark belongs below the others: it is a background.
	under bool
	// look is its style in CSS, empty for plain text.
	look string
	// A mark is one of three: path, the data of a path element; upright, a
	// vertical line; or text, which begins in cell x, y and is n cells long.
	path    string
	upright segment
	text    string
	x, y, n int
}

// segment is a vertical line at x.
type segment struct{ x, top, bottom length }

// joined returns the path data of segments, of which those that continue one
// another are one line: pieces would show their ends when the picture is
// scaled. It sorts list.
func joined(list []segment) string {
	slices.SortFunc(list, func(a, b segment) int { return cmp.Or(cmp.Compare(a.x, b.x), cmp.Compare(a.top, b.top)) })
	var b strings.Builder
	for len(list) > 0 {
		s := list[0]
		list = list[1:]
		for len(list) > 0 && list[0].x == s.x && list[0].top == s.bottom {
			s.bottom = list[0].bottom
			list = list[1:]
		}
		fmt.Fprintf(&b, "M%v %vV%v", s.x, s.top, s.bottom)
	}
	return b.String()
}

// marks returns what a grid draws, row by row.
func marks(g Grid) []mark {
	var list []mark
	for y := range g.Height {
		cells := g.Row(y)
		list = append(list, backgrounds(cells, y)...)
		list = append(list, blocks(cells, y)...)
		list = append(list, horizontals(cells, y, 1)...)
		list = append(list, horizontals(cells, y, 2)...)
		list = append(list, verticals(cells, y)...)
		list = append(list, across(cells, y, Underline, row(y)+1550)...)
		list = append(list, across(cells, y, Strike, row(y)+850)...)
		list = append(list, texts(cells, y)...)
	}
	return list
}

// run returns how many cells from x on satisfy same.
func run(cells []Cell, x int, same func(Cell) bool) int {
	n := 0
	for x+n < len(cells) && same(cells[x+n]) {
		n++
	}
	return n
}

func backgrounds(cells []Cell, y int) []mark {
	var list []mark
	for x := 0; x < len(cells); {
		_, back := cells[x].Style.colors()
		n := run(cells, x, func(c Cell) bool { _, b := c.Style.colors(); return b == back })
		if back != background {
			list = append(list, mark{under: true, look: fill(back), path: rectangle(column(x), row(y), column(n), cellHeight)})
		}
		x += n
	}
	return list
}

// blocks draws block elements. Equal neighbours become one rectangle.
func blocks(cells []Cell, y int) []mark {
	var list []mark
	for x := 0; x < len(cells); {
		b, ok := blockOf(cells[x].single())
		if !ok {
			x++
			continue
		}
		n := run(cells, x, func(c Cell) bool { return c == cells[x] })
		if b.w < 8 {
			n = 1 // A part of each cell cannot be joined to one rectangle.
		}
		text, back := cells[x].Style.colors()
		list = append(list, mark{look: fill(mix(back, text, b.percent)), path: b.path(x, y, n)})
		x += n
	}
	return list
}

// horizontals draws the left and right arms of one weight. Arms that touch
// and look the same become one line.
func horizontals(cells []Cell, y int, weight uint8) []mark {
	var list []mark
	var look string
	var from, to length
	flush := func() {
		if from < to {
			_, my := middle(0, y, weight)
			list = append(list, mark{look: look, path: fmt.Sprintf("M%v %vH%v", from, my, to)})
		}
		from, to = 0, 0
	}
	for x, c := range cells {
		a := boxes[c.single()]
		left, right := column(x), column(x+1)
		mx, _ := middle(x, y, weight)
		if a.left != weight {
			left = mx
		}
		if a.right != weight {
			right = mx
		}
		if left == right || rounded(c.single()) {
			continue
		}
		if s := stroke(c.Style.line(), weight); s != look || left != to {
			flush()
			look, from = s, left
		}
		to = right
	}
	flush()
	return list
}

// verticals draws the arms up and down, and rounded corners.
func verticals(cells []Cell, y int) []mark {
	var list []mark
	for x, c := range cells {
		a := boxes[c.single()]
		weight := max(a.up, a.down)
		if weight == 0 {
			continue
		}
		mx, my := middle(x, y, weight)
		top, bottom := my, my
		if a.up != 0 {
			top = row(y)
		}
		if a.down != 0 {
			bottom = row(y + 1)
		}
		m := mark{look: stroke(c.Style.line(), weight)}
		if rounded(c.single()) {
			m.path = arc(x, y, a)
		} else {
			m.upright = segment{mx, top, bottom}
		}
		list = append(list, m)
	}
	return list
}

// arc draws a rounded corner with the arms a in cell x, y.
func arc(x, y int, a arms) string {
	const radius = 400
	mx, my := middle(x, y, 1)
	edge, side := column(x), mx-radius
	if a.right != 0 {
		edge, side = column(x+1), mx+radius
	}
	end, bend := row(y), my-radius
	if a.down != 0 {
		end, bend = row(y+1), my+radius
	}
	return fmt.Sprintf("M%v %vH%vQ%v %v %v %vV%v", edge, my, side, mx, my, mx, bend, end)
}

// across draws a line at height through the cells that have attr.
func across(cells []Cell, y int, attr Attr, height length) []mark {
	var list []mark
	for x := 0; x < len(cells); {
		color, _ := cells[x].Style.colors()
		n := run(cells, x, func(c Cell) bool { text, _ := c.Style.colors(); return c.Style.Attr&attr != 0 && text == color })
		if n > 0 {
			list = append(list, mark{look: stroke(color, 1), path: fmt.Sprintf("M%v %vH%v", column(x), height, column(x+n))})
		}
		x += max(n, 1)
	}
	return list
}

// texts draws words, and words with one blank between them as one piece of
// text. Symbols (from the arrows on) stand alone: they often come from another
// font, whose widths must not move their neighbours.
func texts(cells []Cell, y int) []mark {
	inWord := func(c Cell) bool {
		r, _ := utf8.DecodeRuneInString(c.Text)
		return c.Text != "" && r != ' ' && r < '←'
	}
	var list []mark
	for x := 0; x < len(cells); {
		first := cells[x]
		word := func(c Cell) bool { return inWord(c) && c.Style == first.Style }
		blank := Cell{Text: " ", Style: first.Style}
		n := run(cells, x, word)
		for n > 0 && x+n < len(cells) && cells[x+n] == blank {
			more := run(cells, x+n+1, word)
			if more == 0 {
				break
			}
			n += 1 + more
		}
		_, isBlock := blockOf(first.single())
		_, isBox := boxes[first.single()]
		if n == 0 && (isBlock || isBox || first.Text == "" || first.Text == " ") {
			x++
			continue
		}
		n = max(n, 1)
		var text strings.Builder
		for _, c := range cells[x : x+n] {
			text.WriteString(c.Text)
		}
		list = append(list, mark{look: first.Style.textLook(), text: text.String(), x: x, y: y, n: n})
		x += n
	}
	return list
}

// single returns the rune of a cell that holds just one, otherwise 0.
func (c Cell) single() rune {
	r, n := utf8.DecodeRuneInString(c.Text)
	if n != len(c.Text) {
		return 0
	}
	return r
}

func fill(c rgb) string { return fmt.Sprintf("fill:%v", c) }

// stroke is the look of a line of this colour: 1 is light, 2 heavy.
func stroke(c rgb, weight uint8) string {
	css := fmt.Sprintf("fill:none;stroke:%v", c)
	if weight == 2 {
		css += ";stroke-width:2"
	}
	return css
}

// textLook is the look of text in the style s, empty for plain text.
func (s Style) textLook() string {
	var css []string
	if text, _ := s.colors(); text != foreground {
		css = append(css, fill(text))
	}
	if s.Attr&Bold != 0 {
		css = append(css, "font-weight:700")
	}
	if s.Attr&Italic != 0 {
		css = append(css, "font-style:italic")
	}
	return strings.Join(css, ";")
}

// escape makes s safe as XML text and as an attribute's value. What XML cannot
// contain becomes U+FFFD.
func escape(s string) string {
	var b strings.Builder
	if err := xml.EscapeText(&b, []byte(s)); err != nil {
		panic(err) // Writing to a strings.Builder does not fail.
	}
	return b.String()
}
