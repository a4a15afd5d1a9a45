package draw

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/charmbracelet/x/ansi"
)

func TestClean(t *testing.T) {
	for in, want := range map[string]string{
		"node":                 "node",
		"":                     "",
		"\x1b[31mred\x1b[0m":   "^[[31mred^[[0m",
		"a\nb\tc\x00\x7f":      "a^Jb^Ic^@^?",
		"\u009b31m":            "<U+009B>31m",
		"\u202egnirts":         "<U+202E>gnirts",
		"zero\u200bwidth":      "zero<U+200B>width",
		"\ufeffbom":            "<U+FEFF>bom",
		"\xff\xfe":             "<FF><FE>",
		"ok\xc3(":              "ok<C3>(",
		"日本語":                  "日本語",
		"e\u0301":              "e\u0301",
		"\u0301lone":           "<U+0301>lone",
		"👍":                    "👍",
		"👍🏽":                   "<U+1F44D><U+1F3FD>",
		"👩\u200d👧":             "<U+1F469><U+200D><U+1F467>",
		"🇩🇪":                   "<U+1F1E9><U+1F1EA>",
		"\u2764\ufe0f":         "<U+2764><U+FE0F>",
		"z\u0301\u0302\u0303.": "z<U+0301><U+0302><U+0303>.",
		"✓ — “quoted” … ██▌░":  "✓ — “quoted” … ██▌░",
	} {
		if got := Clean(in); got != want {
			t.Errorf("Clean(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestCleanASCII(t *testing.T) {
	for in, want := range map[string]string{
		"a · b → c … “d”": `a . b -> c ... "d"`,
		"日本":              "??",
		"é\x1b":           "?^[",
		"\xff":            "<FF>",
	} {
		if got := NewLine(40, true).Put("", in).Trim(); got != want {
			t.Errorf("%q in ASCII: %q, want %q", in, got, want)
		}
	}
}

// safe reports what Clean promises: nothing that moves the cursor, and a width
// on which the two ways in which terminals measure agree.
func safe(s string) bool {
	for _, r := range s {
		if r < 0x20 || 0x7f <= r && r < 0xa0 || r == utf8.RuneError {
			return false
		}
	}
	return utf8.ValidString(s) && ansi.StringWidth(s) == ansi.StringWidthWc(s)
}

func FuzzClean(f *testing.F) {
	for _, s := range []string{"node", "\x1b[2J", "日本\u0301", "👩\u200d👧", "\xff", "\u1100\u1161\u11a8", "क्षि", "\u202e", "✓│"} {
		f.Add(s, 7)
	}
	f.Fuzz(func(t *testing.T, s string, w int) {
		c := Clean(s)
		if !safe(c) {
			t.Errorf("Clean(%q) = %q", s, c)
		}
		if again := Clean(c); again != c {
			t.Errorf("Clean is not idempotent: %q, %q", c, again)
		}
		w = min(max(w, 0), 200)
		for _, ascii := range []bool{false, true} {
			row := NewLine(w, ascii).Put("", s).String()
			if n := ansi.StringWidth(row); n != w || !safe(row) {
				t.Errorf("a line of %d cells with %q is %q, %d cells", w, s, row, n)
			}
			for _, l := range Wrap(s, w, 3, ascii) {
				if n := Width(l); n > w || n == 0 {
					t.Errorf("Wrap(%q, %d): %q has %d cells", s, w, l, n)
				}
			}
		}
		if m := Middle(c, w, false); Width(m) > w {
			t.Errorf("Middle(%q, %d) = %q", c, w, m)
		}
	})
}

// TestOwnGlyphs: what plain takes for one cell is one cell everywhere, alone
// and beside every other.
func TestOwnGlyphs(t *testing.T) {
	for r := rune(0x7f); r < 0x10000; r++ {
		if !own(r) {
			continue
		}
		for _, s := range []string{string(r), string(r) + "✓", "✓" + string(r), string(r) + "a", string(r) + string(r)} {
			n := utf8.RuneCountInString(s)
			if ansi.StringWidth(s) != n || ansi.StringWidthWc(s) != n {
				t.Errorf("%q is not %d cells", s, n)
			}
		}
	}
}

func TestLine(t *testing.T) {
	red := SGR(1, 31)
	for name, c := range map[string]struct {
		line *Line
		want string
	}{
		"empty":      {NewLine(3, false), "   "},
		"styled":     {NewLine(6, false).Put(red, "ab").Put("", "c"), "\x1b[1;31mab\x1b[0mc   "},
		"same style": {NewLine(2, false).Put(red, "a").Put(red, "b"), "\x1b[1;31mab\x1b[0m"},
		"base":       {NewLine(4, false).Base(SGR(7)).Put(red, "a").Put("", "b"), "\x1b[7m\x1b[1;31ma\x1b[0m\x1b[7mb  \x1b[0m"},
		"cut":        {NewLine(4, false).Put("", "abcdef"), "abc…"},
		"cut wide":   {NewLine(4, false).Put("", "漢字漢字"), "漢… "},
		"column":     {NewLine(9, false).Col("", "ab", 4).Col("", "abcdef", 4), "ab  abc… "},
		"right":      {NewLine(9, false).ColRight("", "ab", 4).ColRight("", "abcdef", 4), "  ababc… "},
		"end":        {NewLine(9, false).Put("", "ab").End(Span{"", "xyz"}), "ab    xyz"},
		"no room":    {NewLine(4, false).Put("", "ab").End(Span{"", "xyz"}), "ab  "},
		"repeat":     {NewLine(4, false).Repeat("", "─", 9), "────"},
		"to":         {NewLine(5, false).Put("", "a").To(3).Put("", "b").To(1), "a  b "},
	} {
		if got := c.line.String(); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

func TestBar(t *testing.T) {
	block := Bar{Full: "█", Parts: []string{"▏", "▎", "▍", "▌", "▋", "▊", "▉"}, Track: "░"}
	half := Bar{Full: "#", Track: "-"}
	for _, c := range []struct {
		g    Bar
		f    float64
		want string
	}{
		{block, 0, "░░░░"}, {block, 1, "████"}, {block, 2, "████"}, {block, -1, "░░░░"},
		{block, 0.5, "██░░"}, {block, 0.53, "██▏░"}, {block, 0.001, "▏░░░"},
		{half, 0.5, "##--"}, {half, 0.01, "#---"}, {half, 0.99, "####"},
	} {
		if got := NewLine(4, false).Bar("", "", c.g, c.f, 4).String(); got != c.want {
			t.Errorf("bar of %v: %q, want %q", c.f, got, c.want)
		}
	}
}

func TestLevel(t *testing.T) {
	levels := []string{".", "1", "2", "3"}
	for _, c := range []struct {
		v, top int
		want   string
	}{{0, 9, "."}, {-1, 9, "."}, {1, 1000, "1"}, {9, 9, "3"}, {6, 9, "2"}, {1, 0, "3"}, {1, 1, "3"}} {
		if got := Level(levels, c.v, c.top); got != c.want {
			t.Errorf("Level(%d of %d) = %s, want %s", c.v, c.top, got, c.want)
		}
	}
}

func TestWrap(t *testing.T) {
	for _, c := range []struct {
		s        string
		w, limit int
		want     string
	}{
		{"one two three", 7, 5, "one two|three"},
		{"one two three", 7, 1, "one tw…"},
		{"one two three", 3, 2, "one|tw…"},
		{"abcdefgh", 3, 5, "abc|def|gh"},
		{"a abcdefgh", 3, 5, "a|abc|def|gh"},
		{"  spaced   out ", 20, 5, "spaced out"},
		{"漢字漢字", 5, 5, "漢字|漢字"},
		{"漢", 1, 5, ""},
		{"", 5, 5, ""}, {"x", 0, 5, ""}, {"x", 5, 0, ""},
	} {
		if got := strings.Join(Wrap(c.s, c.w, c.limit, false), "|"); got != c.want {
			t.Errorf("Wrap(%q, %d, %d) = %q, want %q", c.s, c.w, c.limit, got, c.want)
		}
	}
}

func TestMiddle(t *testing.T) {
	for _, c := range []struct {
		s    string
		w    int
		want string
	}{
		{"[2001:db8::1]:443", 20, "[2001:db8::1]:443"},
		{"[2001:db8::1]:443", 11, "[2001…]:443"},
		{"[2001:db8::1]:443", 4, "[20…"},
	} {
		if got := Middle(c.s, c.w, false); got != c.want {
			t.Errorf("Middle(%q, %d) = %q, want %q", c.s, c.w, got, c.want)
		}
	}
}

var frame = Border{"+", "-", "+", "|", "|", "+", "-", "+"}

// TestBox: a box has the size that was asked for, whatever is in it.
func TestBox(t *testing.T) {
	box := Box{Border: frame, Style: SGR(2), Title: []Span{{"", "a title 漢"}}, Right: []Span{{"", "right"}}}
	for w := range 40 {
		for h := range 6 {
			rows := box.Draw(w, h, []string{strings.Repeat("x", max(w-2, 0))})
			if len(rows) != h {
				t.Errorf("%d×%d: %d rows", w, h, len(rows))
			}
			for _, r := range rows {
				if n := ansi.StringWidth(r); n != w {
					t.Errorf("%d×%d: %q has %d cells", w, h, r, n)
				}
			}
		}
	}
	want := "+- T ---- r -+\n|x           |\n+------------+"
	got := strings.Join(Box{Border: frame, Title: []Span{{"", "T"}}, Right: []Span{{"", "r"}}}.Draw(14, 3, []string{"x           ", "lost"}), "\n")
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestOverlay(t *testing.T) {
	base := []string{"abcdef", "漢字漢字"[:9], "abcdef"}
	for x := range 4 {
		got := Overlay(base, []string{"XX", "YY"}, x, 1)
		if got[0] != "abcdef" {
			t.Errorf("the row above changed: %q", got[0])
		}
		for i, r := range got {
			if n := ansi.StringWidth(r); n != 6 {
				t.Errorf("x %d row %d: %q has %d cells", x, i, r, n)
			}
		}
		if i := strings.Index(ansi.Strip(got[2]), "YY"); i != x {
			t.Errorf("x %d: %q", x, got[2])
		}
	}
	if got := Overlay(base, []string{"1", "2", "3"}, 0, 2); len(got) != 3 {
		t.Errorf("an overlay below the edge made %d rows", len(got))
	}
}

func TestBeside(t *testing.T) {
	got := Beside([]string{"a", "b"}, []string{"1", "2", "3"})
	if strings.Join(got, "|") != "a1|b2" {
		t.Errorf("got %q", got)
	}
	if rows := Fill([]string{"ab"}, 2, 3); strings.Join(rows, "|") != "ab|  |  " {
		t.Errorf("got %q", rows)
	}
}

var benchmarkRow string

func BenchmarkLine(b *testing.B) {
	red := SGR(1, 31)
	b.ReportAllocs()
	for b.Loop() {
		benchmarkRow = NewLine(100, false).Gap(1).Put(red, "✗").Gap(1).Col("", "held by a listener", 20).ColRight("", "12", 6).Col("", "node 4211", 20).String()
	}
}
