package screen

import (
	"strings"
	"time"
)

// Color is one of the sixteen ANSI colours or Default, the terminal's own
// colour for text or background.
type Color uint8

// Default is the zero Color. The ANSI colours follow in their standard order,
// so that ANSI colour n is Color(n) + Black.
const (
	Default Color = iota
	Black
	Red
	Green
	Yellow
	Blue
	Magenta
	Cyan
	White
	BrightBlack
	BrightRed
	BrightGreen
	BrightYellow
	BrightBlue
	BrightMagenta
	BrightCyan
	BrightWhite
)

// Attr is a set of text attributes.
type Attr uint8

// The attributes that a cell can have.
const (
	Bold Attr = 1 << iota
	Faint
	Italic
	Underline
	Reverse
	Strike
)

// Style is how a cell looks. The zero Style is plain text.
type Style struct {
	FG, BG Color
	Attr   Attr
}

// Cell is one place of a grid.
type Cell struct {
	// Text is one grapheme cluster, and a space where nothing was written.
	// It is empty in a cell that the wide cluster to its left covers.
	Text  string
	Style Style
}

// Grid is a screen of Width×Height cells.
type Grid struct {
	Width, Height int
	// Cells holds the rows one after the other.
	Cells []Cell
	// Cut says that the view was larger than the grid, so part of it is
	// missing.
	Cut bool
}

// Frame is a screen and how long it stays.
type Frame struct {
	Grid Grid
	Hold time.Duration
}

// Row returns the cells of row y. They are the grid's own, not a copy.
func (g Grid) Row(y int) []Cell {
	return g.Cells[y*g.Width : (y+1)*g.Width]
}

// Text returns what the grid reads, a line for each row, without the blanks at
// line ends.
func (g Grid) Text() string {
	var b strings.Builder
	for y := range g.Height {
		var line strings.Builder
		for _, c := range g.Row(y) {
			line.WriteString(c.Text)
		}
		b.WriteString(strings.TrimRight(line.String(), " "))
		b.WriteByte('\n')
	}
	return b.String()
}
