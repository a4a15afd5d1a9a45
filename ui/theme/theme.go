// Package theme says how berth looks: which style and which glyph each role
// has. Code asks for a role (Refused, Waiting) and never for a colour.
//
// Only the 16 colours of the terminal's own palette are used, so that the
// user's theme decides about light and dark and nothing has to be asked of
// the terminal. Every role has a glyph as well as a colour, and red against
// green is never the difference. A Theme is a value; there is no current one.
package theme

import (
	"fmt"
	"strings"

	"berth/ui/draw"
)

// Theme is a complete look.
type Theme struct {
	Name string
	// ASCII says that the terminal shows nothing beyond ASCII.
	ASCII bool

	// What a bind or a socket is.
	Free, Refused, Waiting, Listen, Estab draw.Style
	// Warn draws attention without being an error. Running is the step that
	// is being done now.
	Warn, Running draw.Style
	// Faint recedes (SGR 2, never colour 8, which some palettes make
	// invisible), Strong stands out, Selected is under the cursor.
	Faint, Strong, Selected draw.Style

	Sym Symbols
}

// Symbols are the glyphs of a theme. Those of the second group are exactly one
// cell, because they are repeated or stacked in columns.
type Symbols struct {
	Free, Refused, Waiting, Listen, Estab, None, Running, Warn, Stopped, Started string

	Cursor                string // beside the selected row
	Thick, Thin           string // a stretch of time in which a bind is refused, or not
	MarkFree, MarkRefused string // where such a stretch begins
	Dot                   string // nothing in this column
	Rule                  string // beside a line of output
	Levels                []string
	Bar                   draw.Bar // one by itself
	Rail                  draw.Bar // one of several that are stacked: full blocks would run together
	Round, Heavy          draw.Border
}

var (
	unicodeSymbols = Symbols{
		Free: "✓", Refused: "✗", Waiting: "◔", Listen: "●", Estab: "↔", None: "·", Running: "▸", Warn: "!", Stopped: "◇", Started: "◆",
		Cursor: "▌", Thick: "━", Thin: "─", MarkFree: "✓", MarkRefused: "✗", Dot: "·", Rule: "│",
		Levels: []string{"·", "▁", "▂", "▃", "▄", "▅", "▆", "▇"},
		Bar:    draw.Bar{Full: "█", Parts: []string{"▏", "▎", "▍", "▌", "▋", "▊", "▉"}, Track: "░"},
		Rail:   draw.Bar{Full: "━", Parts: []string{"╸"}, Track: "─"},
		Round:  draw.Border{TopLeft: "╭", Top: "─", TopRight: "╮", Left: "│", Right: "│", BottomLeft: "╰", Bottom: "─", BottomRight: "╯"},
		Heavy:  draw.Border{TopLeft: "┏", Top: "━", TopRight: "┓", Left: "┃", Right: "┃", BottomLeft: "┗", Bottom: "━", BottomRight: "┛"},
	}
	asciiSymbols = Symbols{
		Free: "ok", Refused: "X", Waiting: "~", Listen: "*", Estab: "<>", None: ".", Running: ">", Warn: "!", Stopped: "o", Started: "@",
		Cursor: ">", Thick: "=", Thin: "-", MarkFree: "o", MarkRefused: "X", Dot: ".", Rule: "|",
		Levels: []string{".", "_", "-", "=", "#"},
		Bar:    draw.Bar{Full: "#", Track: "-"},
		Rail:   draw.Bar{Full: "#", Track: "-"},
		Round:  draw.Border{TopLeft: "+", Top: "-", TopRight: "+", Left: "|", Right: "|", BottomLeft: "+", Bottom: "-", BottomRight: "+"},
		Heavy:  draw.Border{TopLeft: "#", Top: "=", TopRight: "#", Left: "#", Right: "#", BottomLeft: "#", Bottom: "=", BottomRight: "#"},
	}
)

// ANSI is the default look, in the terminal's own 16 colours.
func ANSI() Theme {
	return Theme{
		Name:    "ansi",
		Free:    draw.SGR(36),
		Refused: draw.SGR(1, 31),
		Waiting: draw.SGR(33),
		Listen:  draw.SGR(35),
		Estab:   draw.SGR(34),
		Warn:    draw.SGR(33),
		Running: draw.SGR(1),
		Faint:   draw.SGR(2), Strong: draw.SGR(1), Selected: draw.SGR(1, 7),
		Sym: unicodeSymbols,
	}
}

// Mono is the look without colour: bold, faint and reverse only.
func Mono() Theme {
	return Theme{
		Name:    "mono",
		Refused: draw.SGR(1),
		Waiting: draw.SGR(1),
		Warn:    draw.SGR(1),
		Running: draw.SGR(1),
		Faint:   draw.SGR(2), Strong: draw.SGR(1), Selected: draw.SGR(1, 7),
		Sym: unicodeSymbols,
	}
}

// WithASCII returns the same look spelt in ASCII.
func (t Theme) WithASCII() Theme {
	t.ASCII = true
	t.Sym = asciiSymbols
	return t
}

// Line starts a row of w cells.
func (t Theme) Line(w int) *draw.Line { return draw.NewLine(w, t.ASCII) }

// Wrap breaks text into at most limit lines of w cells.
func (t Theme) Wrap(s string, w, limit int) []string { return draw.Wrap(s, w, limit, t.ASCII) }

// Box returns an empty frame with round corners and a faint edge.
func (t Theme) Box(title ...draw.Span) draw.Box {
	return draw.Box{Border: t.Sym.Round, Style: t.Faint, Title: title, ASCII: t.ASCII}
}

// HeavyBox returns an empty thick frame in a style of its own.
func (t Theme) HeavyBox(st draw.Style, title ...draw.Span) draw.Box {
	return draw.Box{Border: t.Sym.Heavy, Style: st, Title: title, ASCII: t.ASCII}
}

// Wish is what the user asked for; the zero value leaves it to the terminal.
type Wish struct {
	Name    string // "ansi", "mono" or empty
	ASCII   bool
	NoColor bool
}

// Choose picks the look from the user's wish and, where that is silent, from
// the environment: NO_COLOR (no-color.org) and CLICOLOR_FORCE for colour, the
// locale and TERM for glyphs. getenv is os.Getenv.
func Choose(wish Wish, getenv func(string) string) (Theme, error) {
	var t Theme
	switch wish.Name {
	case "ansi":
		t = ANSI()
	case "mono":
		t = Mono()
	case "":
		t = ANSI()
		noColor := getenv("NO_COLOR") != "" || getenv("TERM") == "dumb"
		if force := getenv("CLICOLOR_FORCE"); force != "" && force != "0" {
			noColor = false
		}
		if noColor {
			t = Mono()
		}
	default:
		return Theme{}, fmt.Errorf("no theme is called %q: use ansi or mono", wish.Name)
	}
	if wish.NoColor {
		t = Mono()
	}
	if wish.ASCII || asciiTerminal(getenv) {
		t = t.WithASCII()
	}
	return t, nil
}

// asciiTerminal reports whether the terminal cannot show the glyphs. The first
// of the three variables that is set decides, as in setlocale(3). If none is
// set, nobody has said anything: in a container that is the rule, and the
// terminal outside speaks UTF-8. The Linux console's fonts have at most 512
// glyphs, and not these.
func asciiTerminal(getenv func(string) string) bool {
	switch getenv("TERM") {
	case "linux", "dumb":
		return true
	}
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if v := strings.ToLower(getenv(name)); v != "" {
			return !strings.Contains(v, "utf-8") && !strings.Contains(v, "utf8")
		}
	}
	return false
}
