package screen

import (
	"bytes"
	"encoding/xml"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write testdata instead of comparing with it")

// golden compares got with testdata/name and shows the first line that
// differs.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// A checkout may have turned the line ends.
	want = bytes.ReplaceAll(want, []byte("\r\n"), []byte("\n"))
	if bytes.Equal(got, want) {
		return
	}
	g, w := strings.Split(string(got), "\n"), strings.Split(string(want), "\n")
	for i := range min(len(g), len(w)) {
		if g[i] != w[i] {
			t.Fatalf("%s, line %d:\n got %s\nwant %s\n(go test ./ui/screen -update accepts it)", path, i+1, g[i], w[i])
		}
	}
	t.Fatalf("%s: %d lines, want %d", path, len(g), len(w))
}

// sample has what berth's screens have: frames, marks, bars, a cursor row.
const sample = "\x1b[2m╭─\x1b[m Ports \x1b[2m──────╮\x1b[m\n" +
	"\x1b[2m│\x1b[m\x1b[7m▌18789 \x1b[1;31m✗ held \x1b[m\x1b[2m│\x1b[m\n" +
	"\x1b[2m│\x1b[m 8080 \x1b[33m◔ ▓▓▓░\x1b[m  \x1b[2m│\x1b[m\n" +
	"\x1b[2m│\x1b[m ▁▂▃▄▅▆▇█ <&> \x1b[2m│\x1b[m\n" +
	"\x1b[2m│\x1b[m \x1b[2;9mgone now\x1b[m 漢字\x1b[2m│\x1b[m\n" +
	"\x1b[2m╰──────────────╯\x1b[m\n" +
	"┏━━┳━┓ \x1b[1mb \x1b[3mi\x1b[m \x1b[4mu u\x1b[m\n" +
	"┗━━┻━┛ \x1b[97;44m on \x1b[m"

func TestStillGolden(t *testing.T) {
	svg := Still("<&>", Parse(sample, 16, 8))
	checkXML(t, svg)
	golden(t, "still.svg", svg)
}

func TestTextGolden(t *testing.T) {
	golden(t, "still.txt", []byte(Parse(sample, 16, 8).Text()))
}

// frames are three screens with a row that moves and a frame around it that
// does not.
func frames() []Frame {
	var list []Frame
	for i, hold := range []time.Duration{500 * time.Millisecond, 250 * time.Millisecond, 2 * time.Second} {
		view := fmt.Sprintf("╭──────╮\n│ \x1b[33m%-4s\x1b[m │\n╰──────╯", strings.Repeat("▓", 3-i))
		list = append(list, Frame{Grid: Parse(view, 8, 3), Hold: hold})
	}
	return list
}

func TestAnimationGolden(t *testing.T) {
	svg := Animation("berth", frames())
	checkXML(t, svg)
	golden(t, "animation.svg", svg)
}

func TestCastGolden(t *testing.T) {
	golden(t, "animation.cast", Cast("berth", frames()))
}

func TestSameBytesEachTime(t *testing.T) {
	for range 5 {
		g := Parse(sample, 16, 8)
		if !bytes.Equal(Still("t", g), Still("t", g)) {
			t.Fatal("two stills of one grid differ")
		}
		if !bytes.Equal(Animation("t", frames()), Animation("t", frames())) {
			t.Fatal("two animations of the same frames differ")
		}
	}
}

// At each moment an animated picture shows the marks of that moment's frame
// and no others: the groups that the keyframes make visible then, together
// with what is always visible.
func TestFilm(t *testing.T) {
	svg := string(Animation("berth", frames()))
	if !strings.Contains(svg, "g{animation:2.750s steps(1,end) infinite}") {
		t.Error("the film does not take the 2.75 s that its frames hold")
	}
	rules := regexp.MustCompile(`@keyframes (\w+)\{(.*)\}\n`).FindAllStringSubmatch(svg, -1)
	steps := regexp.MustCompile(`([0-9.]+)%\{visibility:(\w+)\}`)
	bars := regexp.MustCompile(`M16\.8 19h([0-9.]+)v`)
	var at time.Duration
	for i, f := range frames() {
		for _, moment := range []time.Duration{at + time.Millisecond, at + f.Hold - time.Millisecond} {
			// Take away what is hidden at that moment. The rest must draw the
			// bar of this frame alone.
			shown := svg
			for _, rule := range rules {
				state := ""
				for _, step := range steps.FindAllStringSubmatch(rule[2], -1) {
					percent, err := strconv.ParseFloat(step[1], 64)
					if err != nil {
						t.Fatal(err)
					}
					if percent/100*2750 <= float64(moment.Milliseconds()) {
						state = step[2]
					}
				}
				switch state {
				case "visible":
				case "hidden":
					shown = regexp.MustCompile(`(?s)<g class="`+rule[1]+`">.*?</g>\n`).ReplaceAllString(shown, "")
				default:
					t.Fatalf("group %s has state %q at %v", rule[1], state, moment)
				}
			}
			var widths []string
			for _, m := range bars.FindAllStringSubmatch(shown, -1) {
				widths = append(widths, m[1])
			}
			if want := column(3 - i).String(); len(widths) != 1 || widths[0] != want {
				t.Errorf("at %v bars of the widths %v are shown, want one of %s", moment, widths, want)
			}
			if n := strings.Count(shown, "Q"); n != 4 {
				t.Errorf("at %v %d corners of the frame are shown, want 4", moment, n)
			}
		}
		at += f.Hold
	}
}

// Without animation the picture is the last frame.
func TestFilmWithoutAnimation(t *testing.T) {
	svg := string(Animation("berth", frames()))
	groups := regexp.MustCompile(`(?s)<g class="(\w+)">(.*?)</g>`).FindAllStringSubmatch(svg, -1)
	if len(groups) != 3 {
		t.Errorf("%d groups, want one for each bar", len(groups))
	}
	for _, g := range groups {
		last := strings.Contains(g[2], "h"+column(1).String()+"v") // The last bar is one cell long.
		if hidden := strings.Contains(svg, "."+g[1]+"{visibility:hidden}"); hidden == last {
			t.Errorf("group %s is hidden: %v; of the last frame: %v\n%s", g[1], hidden, last, g[2])
		}
	}
}

// What does not move is drawn once, and what moves does not repeat its
// neighbours: a further frame costs little.
func TestFurtherFramesAreSmall(t *testing.T) {
	film := func(n int) int {
		var list []Frame
		for i := range n {
			view := strings.Replace(sample, "8080", fmt.Sprint(8080+i), 1)
			list = append(list, Frame{Grid: Parse(view, 16, 8), Hold: time.Second})
		}
		return len(Animation("t", list))
	}
	if perFrame := (film(100) - film(10)) / 90; perFrame > 270 {
		t.Errorf("a frame in which four digits change takes %d bytes, want at most 270", perFrame)
	}
}

// Frames that take no time, and no frames, make a still picture.
func TestAnimationWithoutTime(t *testing.T) {
	g := Parse("still", 8, 1)
	for _, list := range [][]Frame{nil, {{Grid: g}}, {{Grid: Parse("other", 8, 1)}, {Grid: g}}} {
		svg := Animation("t", list)
		checkXML(t, svg)
		if bytes.Contains(svg, []byte("animation")) {
			t.Errorf("%d frames that hold no time make a film", len(list))
		}
		if len(list) > 0 && !bytes.Contains(svg, []byte(">still<")) {
			t.Errorf("%d frames: the last is not drawn", len(list))
		}
	}
}

// Text keeps its place and length whatever the font is: x and textLength are
// those of its cells.
func TestTextKeepsTheGrid(t *testing.T) {
	svg := Still("t", Parse("ab c  \x1b[1mcdé\x1b[m f →x", 20, 1))
	type text struct {
		X          float64 `xml:"x,attr"`
		TextLength float64 `xml:"textLength,attr"`
		Text       string  `xml:",chardata"`
	}
	var doc struct {
		Screen struct {
			Texts []text `xml:"text"`
		} `xml:"svg"`
	}
	if err := xml.Unmarshal(svg, &doc); err != nil {
		t.Fatal(err)
	}
	want := []text{{0, 33.6, "ab c"}, {50.4, 25.2, "cdé"}, {84, 0, "f"}, {100.8, 0, "→"}, {109.2, 0, "x"}}
	if got := doc.Screen.Texts; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("texts %v, want %v", got, want)
	}
}

// A background is drawn before the text that stands on it, also when the text
// has been there for longer.
func TestBackgroundsLieUnder(t *testing.T) {
	plain, marked := Parse("word\n\x1b[41m ", 4, 2), Parse("\x1b[44;97mword\x1b[m\n\x1b[41m ", 4, 2)
	for name, svg := range map[string][]byte{
		"still": Still("t", marked),
		"film":  Animation("t", []Frame{{plain, time.Second}, {marked, time.Second}, {plain, time.Second}}),
	} {
		_, screen, _ := strings.Cut(string(svg), "<svg x=")
		text := strings.Index(screen, "<text")
		if n := strings.Count(screen[:max(text, 0)], "<path"); n != 2 {
			t.Errorf("%s: %d backgrounds are drawn before the first text, want 2\n%s", name, n, screen)
		}
	}
}

// Neighbouring equal bars are one rectangle; different ones are not.
func TestBarsAreJoined(t *testing.T) {
	for _, c := range []struct {
		view  string
		rects int
	}{{"▓▓▓▓", 1}, {"▓▓░░", 2}, {"▇▇▁▁▇▇", 3}, {"\x1b[33m▓▓\x1b[31m▓▓", 2}, {"▌▌", 2}, {"▓ ▓", 2}} {
		if n := len(blocks(Parse(c.view, 8, 1).Row(0), 0)); n != c.rects {
			t.Errorf("%q is drawn as %d rectangles, want %d", c.view, n, c.rects)
		}
	}
}

// Every box drawing character and block is drawn as a shape that stays inside
// its cell, and not as a glyph too.
func TestShapesInsideTheirCell(t *testing.T) {
	var all []rune
	for r := range boxes {
		all = append(all, r)
	}
	for r := '▀'; r <= '▕'; r++ {
		if _, ok := blockOf(r); ok {
			all = append(all, r)
		}
	}
	if len(all) < 50 {
		t.Fatalf("only %d shapes", len(all))
	}
	numbers := regexp.MustCompile(`[MHVQhv ](-?[0-9.]+)`)
	for _, r := range all {
		drawn := marks(Parse(" "+string(r), 3, 1))
		if len(drawn) == 0 {
			t.Errorf("%c is not drawn", r)
		}
		for _, m := range drawn {
			if m.text != "" {
				t.Errorf("%c is drawn as text", r)
			}
			for _, n := range numbers.FindAllStringSubmatch(m.path+joined([]segment{m.upright}), -1) {
				v, err := strconv.ParseFloat(n[1], 64)
				if err != nil {
					t.Fatal(err)
				}
				if v < -8.4 || v > 18 {
					t.Errorf("%c reaches %v px: %s", r, v, m.path)
				}
			}
		}
	}
}

// A line through several rows is one, and a gap keeps two apart.
func TestUprightsAreJoined(t *testing.T) {
	got := joined([]segment{{450, 3600, 5400}, {1250, 0, 1800}, {450, 0, 1800}, {450, 5400, 7200}, {1250, 1800, 3600}})
	if want := "M4.5 0V18M4.5 36V72M12.5 0V36"; got != want {
		t.Errorf("lines %s, want %s", got, want)
	}
}

func TestLength(t *testing.T) {
	for l, want := range map[length]string{0: "0", 100: "1", 840: "8.4", 1: "0.01", -5: "-0.05", -1350: "-13.5", 12345: "123.45", 1010: "10.1"} {
		if l.String() != want {
			t.Errorf("%d = %q, want %q", int(l), l, want)
		}
	}
}
