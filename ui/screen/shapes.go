package screen

import "fmt"

// length is hundredths of a pixel. Whole numbers keep the pictures the same
// on every machine; floating point would not (arm64 fuses operations).
type length int

// String writes l in pixels, as short as it can be.
func (l length) String() string {
	sign := ""
	if l < 0 {
		sign, l = "-", -l
	}
	switch {
	case l%100 == 0:
		return fmt.Sprintf("%s%d", sign, l/100)
	case l%10 == 0:
		return fmt.Sprintf("%s%d.%d", sign, l/100, l%100/10)
	}
	return fmt.Sprintf("%s%d.%02d", sign, l/100, l%100)
}

// A cell at 14 px: 0.6 em wide, as most monospace fonts are, and a whole
// number of pixels high, so that lines and bars fall on pixels in every row.
const (
	cellWidth  length = 840
	cellHeight length = 1800
	// baseline is where text stands, from the top of its row.
	baseline length = 1300
)

// column returns the left edge of the cells in column x, and row the top of
// those in row y.
func column(x int) length { return length(x) * cellWidth }
func row(y int) length    { return length(y) * cellHeight }

// middle returns where the lines in cell x, y meet. A light line is one pixel
// wide and runs through the middle of pixels; a heavy one is two pixels wide
// and runs between them. Both are sharp so.
func middle(x, y int, weight uint8) (mx, my length) {
	mx, my = (column(x)+cellWidth/2)/100*100, row(y)+800
	if weight == 1 {
		return mx + 50, my + 50
	}
	return mx, my
}

// arms says which of a cell's four edges a box drawing character reaches from
// the middle, and how: 0 not at all, 1 with a light line, 2 with a heavy one.
type arms struct{ left, right, up, down uint8 }

// boxes are the box drawing characters that are drawn as lines. Dashed,
// doubled and diagonal ones stay text.
var boxes = map[rune]arms{
	'─': {1, 1, 0, 0}, '│': {0, 0, 1, 1}, '┌': {0, 1, 0, 1}, '┐': {1, 0, 0, 1},
	'└': {0, 1, 1, 0}, '┘': {1, 0, 1, 0}, '├': {0, 1, 1, 1}, '┤': {1, 0, 1, 1},
	'┬': {1, 1, 0, 1}, '┴': {1, 1, 1, 0}, '┼': {1, 1, 1, 1},
	'╴': {1, 0, 0, 0}, '╵': {0, 0, 1, 0}, '╶': {0, 1, 0, 0}, '╷': {0, 0, 0, 1},
	'━': {2, 2, 0, 0}, '┃': {0, 0, 2, 2}, '┏': {0, 2, 0, 2}, '┓': {2, 0, 0, 2},
	'┗': {0, 2, 2, 0}, '┛': {2, 0, 2, 0}, '┣': {0, 2, 2, 2}, '┫': {2, 0, 2, 2},
	'┳': {2, 2, 0, 2}, '┻': {2, 2, 2, 0}, '╋': {2, 2, 2, 2},
	'╸': {2, 0, 0, 0}, '╹': {0, 0, 2, 0}, '╺': {0, 2, 0, 0}, '╻': {0, 0, 0, 2},
	'╭': {0, 1, 0, 1}, '╮': {1, 0, 0, 1}, '╯': {1, 0, 1, 0}, '╰': {0, 1, 1, 0},
}

// rounded are the boxes whose two lines meet in an arc.
func rounded(r rune) bool { return '╭' <= r && r <= '╰' }

// block is the part of a cell that a block element fills, in eighths from the
// left and from the top, and how much of the text colour it has, in percent.
type block struct{ x, y, w, h, percent int }

// blockOf returns the block that r draws, if it is one.
func blockOf(r rune) (block, bool) {
	switch {
	case r == '▀':
		return block{0, 0, 8, 4, 100}, true
	case '▁' <= r && r <= '█':
		n := int(r-'▁') + 1
		return block{0, 8 - n, 8, n, 100}, true
	case '▉' <= r && r <= '▏':
		return block{0, 0, 7 - int(r-'▉'), 8, 100}, true
	case r == '▐':
		return block{4, 0, 4, 8, 100}, true
	case '░' <= r && r <= '▓':
		return block{0, 0, 8, 8, 25 * (int(r-'░') + 1)}, true
	case r == '▔':
		return block{0, 0, 8, 1, 100}, true
	case r == '▕':
		return block{7, 0, 1, 8, 100}, true
	}
	return block{}, false
}

// path draws b, repeated in n cells from cell x, y on, as one rectangle. One
// that is as high as the row leaves a pixel free above, so that bars in
// neighbouring rows stay apart.
func (b block) path(x, y, n int) string {
	top, h := row(y)+cellHeight*length(b.y)/8, cellHeight*length(b.h)/8
	if b.h == 8 {
		top, h = top+100, h-100
	}
	return rectangle(column(x)+cellWidth*length(b.x)/8, top, cellWidth*length(b.w)/8+column(n-1), h)
}

// rectangle returns the path data of one.
func rectangle(left, top, w, h length) string {
	return fmt.Sprintf("M%v %vh%vv%vh%vz", left, top, w, h, -w)
}
