package screen

import (
	"strconv"
	"strings"
)

// encode writes cells as text with SGR sequences, without the plain blanks at
// their end. It starts from and returns to the plain style, and Parse reads it
// back as the same cells.
func encode(cells []Cell) string {
	var b strings.Builder
	var style Style
	for _, c := range trim(cells) {
		if c.Text != "" && c.Style != style {
			style = c.Style
			b.WriteString(style.sequence())
		}
		b.WriteString(c.Text)
	}
	if style != (Style{}) {
		b.WriteString("\x1b[m")
	}
	return b.String()
}

// trim returns cells without the plain blanks at their end.
func trim(cells []Cell) []Cell {
	for len(cells) > 0 && cells[len(cells)-1] == (Cell{Text: " "}) {
		cells = cells[:len(cells)-1]
	}
	return cells
}

// sequence returns the SGR sequence that sets s whatever was set before.
func (s Style) sequence() string {
	codes := []string{"0"}
	for _, a := range []struct {
		attr Attr
		code string
	}{{Bold, "1"}, {Faint, "2"}, {Italic, "3"}, {Underline, "4"}, {Reverse, "7"}, {Strike, "9"}} {
		if s.Attr&a.attr != 0 {
			codes = append(codes, a.code)
		}
	}
	codes = append(codes, s.FG.codes(30, 90)...)
	codes = append(codes, s.BG.codes(40, 100)...)
	return "\x1b[" + strings.Join(codes, ";") + "m"
}

// codes returns the SGR parameter for c, where the normal colours begin at
// normal and the bright ones at bright; none for Default.
func (c Color) codes(normal, bright int) []string {
	switch {
	case c == Default:
		return nil
	case c < BrightBlack:
		return []string{strconv.Itoa(normal + int(c-Black))}
	}
	return []string{strconv.Itoa(bright + int(c-BrightBlack))}
}
