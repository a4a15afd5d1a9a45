package draw

import (
	"fmt"
	"math"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/charmbracelet/x/ansi"
)

// maxMarks is how many combining marks a base character may carry. Real
// writing systems need two; a stack of them paints over the lines above.
const maxMarks = 2

// Clean makes text of another process safe to put on a terminal, and shows
// what it took away, the way less(1) does: a control character becomes ^[, a
// format character (bidi override, zero-width joiner) <U+202E>, a byte that is
// not UTF-8 <FF>. A character whose width terminals disagree about, such as a
// flag or an emoji sequence, is shown as its code points too, because one
// wrong cell would tear every border to its right. Clean is idempotent.
func Clean(s string) string { return clean(s, math.MaxInt, false) }

// clean is Clean up to the point where the result is wider than w cells: of a
// command line of 100 KiB only what may be shown is looked at.
func clean(s string, w int, ascii bool) string {
	if n, ok := plain(s); ok && (!ascii || n == len(s)) {
		return s
	}
	var b strings.Builder
	last := "" // the end of what is written
	for cells := 0; s != "" && cells <= w; {
		cluster, width := ansi.FirstGraphemeCluster(s, ansi.GraphemeWidth)
		s = s[len(cluster):]
		if !ascii && width > 0 && width == ansi.StringWidthWc(cluster) && simple(cluster) && separate(last, cluster) {
			b.WriteString(cluster)
			cells += width
			last = cluster
			continue
		}
		before := b.Len()
		spell(&b, cluster, ascii)
		cells += b.Len() - before // ASCII: a byte is a cell
		last = ">"
	}
	return b.String()
}

// spell appends a grapheme cluster in ASCII.
func spell(b *strings.Builder, cluster string, ascii bool) {
	for i := 0; i < len(cluster); {
		r, size := utf8.DecodeRuneInString(cluster[i:])
		i += size
		switch {
		case r == utf8.RuneError && size <= 1:
			fmt.Fprintf(b, "<%02X>", cluster[i-1])
		case r < 0x20 || r == 0x7f:
			b.WriteByte('^')
			b.WriteByte(byte(r) ^ 0x40)
		case r < 0x7f:
			b.WriteByte(byte(r))
		case ascii:
			b.WriteString(toASCII(r))
		default:
			fmt.Fprintf(b, "<U+%04X>", r)
		}
	}
}

// simple reports whether a cluster is a printable character, alone or with
// letters and at most maxMarks marks that belong to it.
func simple(cluster string) bool {
	marks := 0
	for i, r := range cluster {
		mark := unicode.Is(unicode.M, r)
		switch {
		case !unicode.IsPrint(r), mark && !visibleMark(r):
			return false
		case i == 0 && mark, i > 0 && !mark && !unicode.IsLetter(r):
			return false
		case mark:
			marks++
		}
	}
	return marks <= maxMarks && utf8.ValidString(cluster)
}

// separate reports whether a cluster stays one of its own between what was
// written before it, since what stood between them may have been spelt out,
// and the space or border that may follow.
func separate(last, cluster string) bool {
	before, _ := ansi.FirstGraphemeCluster(last+cluster, ansi.GraphemeWidth)
	itself, _ := ansi.FirstGraphemeCluster(cluster+" ", ansi.GraphemeWidth)
	return (last == "" || before == last) && itself == cluster
}

// visibleMark excludes the marks that draw nothing themselves: variation
// selectors change their base, the grapheme joiner only hides.
func visibleMark(r rune) bool {
	return r != 0x034f && !unicode.Is(unicode.Variation_Selector, r)
}

// asciiForms spells the punctuation that berth itself writes on terminals
// that show ASCII only.
var asciiForms = map[rune]string{
	'·': ".", '…': "...", '–': "-", '—': "-", '→': "->", '←': "<-", '≤': "<=", '×': "x",
	'“': `"`, '”': `"`, '‘': "'", '’': "'", '↑': "up", '↓': "dn", '›': ">", '\u00a0': " ", '≥': ">=", 'µ': "u",
}

func toASCII(r rune) string {
	if s, ok := asciiForms[r]; ok {
		return s
	}
	return "?"
}

// plain returns the width of text that needs no work: printable ASCII and the
// glyphs that berth itself draws with, each of which is one cell everywhere.
// Nearly all text is of this kind, and segmenting it into graphemes would cost
// more than everything else on the page.
func plain(s string) (cells int, ok bool) {
	for i := 0; i < len(s); {
		c := s[i]
		if 0x20 <= c && c <= 0x7e {
			i++
			cells++
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		if !own(r) {
			return 0, false
		}
		i += size
		cells++
	}
	return cells, true
}

// own reports whether r is one of the one-cell glyphs of the themes: arrows,
// box drawing and block elements, and some single signs. None of them joins
// with a neighbour of the same kind.
func own(r rune) bool {
	switch {
	case 0x2500 <= r && r <= 0x259f, 0x2190 <= r && r <= 0x2193:
		return true
	}
	switch r {
	case '·', '…', '–', '—', '×', '≤', '≥', '“', '”', '‘', '’', '›', 'µ', '✓', '✗', '●', '◔', '◇', '◆', '▸', '◀', '↔':
		return true
	}
	return false
}

// Width returns the number of terminal cells of s.
func Width(s string) int {
	if n, ok := plain(s); ok {
		return n
	}
	return ansi.StringWidth(s)
}
