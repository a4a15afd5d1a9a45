package screen

import (
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
	"unicode"

	"github.com/charmbracelet/x/ansi"
)

// cells builds a row of one-column cells in one style.
func cells(text string, style Style) []Cell {
	var row []Cell
	for _, r := range text {
		row = append(row, Cell{Text: string(r), Style: style})
	}
	return row
}

func join(parts ...[]Cell) []Cell {
	var row []Cell
	for _, p := range parts {
		row = append(row, p...)
	}
	return row
}

func TestParse(t *testing.T) {
	plain := Style{}
	for _, c := range []struct {
		name, view string
		want       []Cell // The one row of the grid, before the blanks at its end.
		cut        bool
	}{
		{name: "text", view: "port", want: cells("port", plain)},
		{name: "all attributes", view: "\x1b[1;2;3;4;7;9ma",
			want: cells("a", Style{Attr: Bold | Faint | Italic | Underline | Reverse | Strike})},
		{name: "attributes end one by one", view: "\x1b[1;2;3;4;7;9m\x1b[22;23;24;27;29ma", want: cells("a", plain)},
		{name: "bold and faint end together", view: "\x1b[1;2ma\x1b[22mb",
			want: join(cells("a", Style{Attr: Bold | Faint}), cells("b", plain))},
		{name: "colours", view: "\x1b[31;44ma\x1b[97;103mb",
			want: join(cells("a", Style{FG: Red, BG: Blue}), cells("b", Style{FG: BrightWhite, BG: BrightYellow}))},
		{name: "default colours", view: "\x1b[31;44m\x1b[39;49ma", want: cells("a", plain)},
		{name: "reset", view: "\x1b[1;31ma\x1b[0mb\x1b[1mc\x1b[md",
			want: join(cells("a", Style{FG: Red, Attr: Bold}), cells("b", plain), cells("c", Style{Attr: Bold}), cells("d", plain))},
		{name: "empty parameter is 0", view: "\x1b[31m\x1b[;1ma", want: cells("a", Style{Attr: Bold})},
		{name: "256 colours are skipped whole", view: "\x1b[38;5;1;1ma", want: cells("a", Style{Attr: Bold})},
		{name: "RGB is skipped whole", view: "\x1b[48;2;4;7;9;3ma", want: cells("a", Style{Attr: Italic})},
		{name: "RGB with colons", view: "\x1b[38:2::4:7:9;3ma", want: cells("a", Style{Attr: Italic})},
		{name: "a colour that breaks off", view: "\x1b[38ma\x1b[48;2;1mb", want: cells("ab", plain)},
		{name: "underline kinds", view: "\x1b[4:3ma\x1b[4:0mb\x1b[21mc",
			want: join(cells("a", Style{Attr: Underline}), cells("b", plain), cells("c", Style{Attr: Underline}))},
		{name: "unknown parameters", view: "\x1b[5;8;53;99999999999999999999ma", want: cells("a", plain)},
		{name: "more parameters than a parser has room for", view: "\x1b[" + strings.Repeat("1;", 100) + "3ma",
			want: cells("a", Style{Attr: Bold | Italic})},
		{name: "not SGR although it ends in m", view: "\x1b[>4;1ma\x1b[?1mb\x1b[1 mc", want: cells("abc", plain)},
		{name: "other sequences", view: "\x1b[2J\x1b]0;title\x07a\x1b]8;;http://x\x1b\\b\x1b(Bc\x1b7\x1b[3;4Hd", want: cells("abcd", plain)},
		{name: "control characters", view: "a\r\x00\x07\t\x7f\u0085b\u200b", want: cells("ab", plain)},
		{name: "sequence without an end", view: "a\x1b[31", want: cells("a", plain)},
		{name: "not UTF-8", view: "a\xffb", want: cells("a\uFFFDb", plain)},
		{name: "wide", view: "\x1b[31m漢a", want: join(
			[]Cell{{"漢", Style{FG: Red}}, {"", Style{FG: Red}}}, cells("a", Style{FG: Red}))},
		{name: "combining marks", view: "e\u0301\u0323x", want: join([]Cell{{"e\u0301\u0323", plain}}, cells("x", plain))},
		{name: "keycap", view: "#\uFE0F\u20E3x", want: join([]Cell{{"#\uFE0F\u20E3", plain}, {}}, cells("x", plain))},
		{name: "a mark with nothing to mark", view: "\u0301x", want: cells("x", plain)},
		{name: "as wide as the grid", view: "0123456789abcdef", want: cells("0123456789abcdef", plain)},
		{name: "too wide", view: "0123456789abcdefX", want: cells("0123456789abcdef", plain), cut: true},
		{name: "half a wide character does not fit", view: "0123456789abcde漢", want: cells("0123456789abcde", plain), cut: true},
		{name: "after a cut nothing follows", view: "0123456789abcde漢x", want: cells("0123456789abcde", plain), cut: true},
		{name: "too high", view: "a\nb", want: cells("a", plain), cut: true},
		{name: "a line feed at the end is no line", view: "a\n", want: cells("a", plain)},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := Parse(c.view, 16, 1)
			want := append(c.want, cells(strings.Repeat(" ", 16-len(c.want)), plain)...)
			for x, cell := range g.Row(0) {
				if cell != want[x] {
					t.Errorf("cell %d = %q %+v, want %q %+v", x, cell.Text, cell.Style, want[x].Text, want[x].Style)
				}
			}
			if g.Cut != c.cut {
				t.Errorf("Cut = %v, want %v", g.Cut, c.cut)
			}
		})
	}
}

// A style lasts until it is changed, over line ends too; a line is drawn from
// the left edge.
func TestParseLines(t *testing.T) {
	g := Parse("one\x1b[31m\ntwo\n\nfour", 5, 5)
	if got, want := g.Text(), "one\ntwo\n\nfour\n\n"; got != want {
		t.Errorf("text = %q, want %q", got, want)
	}
	if got := g.Row(1)[0].Style; got != (Style{FG: Red}) {
		t.Errorf("style of the second line = %+v, want red", got)
	}
	if got := g.Row(1)[3]; got != (Cell{Text: " "}) {
		t.Errorf("the cell behind the second line = %+v, want a plain blank", got)
	}
}

func TestParseEmptyGrid(t *testing.T) {
	for _, size := range [][2]int{{0, 0}, {0, 3}, {3, 0}, {-1, -1}} {
		g := Parse("text", size[0], size[1])
		if len(g.Cells) != 0 || !g.Cut {
			t.Errorf("grid of %v: %d cells, Cut = %v, want none and true", size, len(g.Cells), g.Cut)
		}
	}
}

// FuzzParse holds what every grid and picture must be, whatever a view has in
// it: the cells add up, nothing in them can steer a terminal, reading back
// what is written gives the same row, and the picture is XML.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"", "plain\ntext", "\x1b[1;31mred\x1b[m ▓▓░ ╭─╮", "漢字\x1b[7m▌\x1b[27m", "e\u0301 \xff\xfe \u202e",
		"\x1b[38;5;1m\x1b[4:3m", "\x1b]0;t\x07\x1b[", "<&\"'>\uFFFE\u0001", "🇩🇪👨‍👩‍👧#\uFE0F\u20E3",
	} {
		f.Add(s, 12, 3)
	}
	f.Fuzz(func(t *testing.T, view string, width, height int) {
		width, height = width&31, height&7
		g := Parse(view, width, height)
		if len(g.Cells) != width*height {
			t.Fatalf("%d cells in a grid of %d×%d", len(g.Cells), width, height)
		}
		for y := range height {
			row := g.Row(y)
			checkRow(t, row)
			again := Parse(encode(row), width, 1)
			for x := range row {
				if mergesWith(row, x) {
					return
				}
				if row[x] != again.Cells[x] {
					t.Errorf("row %d cell %d is %+q, read back %+q from %q", y, x, row[x], again.Cells[x], encode(row))
				}
			}
		}
		checkXML(t, Still(view, g))
		checkXML(t, Animation(view, []Frame{{g, 1e9}, {Parse("", width, height), 2e9}}))
	})
}

// checkRow holds that each cluster is followed by as many covered cells as
// it is wide, and that nothing in it is a control character.
func checkRow(t *testing.T, row []Cell) {
	t.Helper()
	for x := 0; x < len(row); {
		text := row[x].Text
		w := ansi.StringWidth(text)
		if w < 1 || x+w > len(row) {
			t.Fatalf("cell %d: %q is %d wide in a row of %d", x, text, w, len(row))
		}
		for _, r := range text {
			if unicode.IsControl(r) {
				t.Errorf("cell %d: %q has a control character", x, text)
			}
		}
		for i := x + 1; i < x+w; i++ {
			if row[i] != (Cell{Style: row[x].Style}) {
				t.Errorf("cell %d is %+v, want it covered by %q", i, row[i], text)
			}
		}
		x += w
	}
}

// mergesWith reports whether the text of cell x and of the next one join to
// one cluster when a sequence that stood between them is gone, as the two
// halves of a flag do.
func mergesWith(row []Cell, x int) bool {
	next := x + 1
	for next < len(row) && row[next].Text == "" {
		next++
	}
	if row[x].Text == "" || next == len(row) || row[next].Style != row[x].Style {
		return false
	}
	both := row[x].Text + row[next].Text
	cluster, _ := first(both)
	return len(cluster) > len(row[x].Text)
}

func checkXML(t *testing.T, svg []byte) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(string(svg)))
	for {
		_, err := d.Token()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatalf("the picture is not XML: %v\n%s", err, svg)
		}
	}
}
