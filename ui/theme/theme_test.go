package theme

import (
	"reflect"
	"testing"

	"github.com/charmbracelet/x/ansi"

	"berth/ui/draw"
)

func TestChoose(t *testing.T) {
	type env map[string]string
	for name, c := range map[string]struct {
		wish  Wish
		env   env
		look  string
		ascii bool
	}{
		"nothing said":          {Wish{}, env{}, "ansi", false},
		"utf-8":                 {Wish{}, env{"LANG": "en_US.UTF-8"}, "ansi", false},
		"utf8 of LC_ALL":        {Wish{}, env{"LC_ALL": "C.utf8", "LANG": "C"}, "ansi", false},
		"LC_ALL before LANG":    {Wish{}, env{"LC_ALL": "C", "LANG": "en_US.UTF-8"}, "ansi", true},
		"LC_CTYPE before LANG":  {Wish{}, env{"LC_CTYPE": "POSIX", "LANG": "en_US.UTF-8"}, "ansi", true},
		"Linux console":         {Wish{}, env{"TERM": "linux", "LANG": "en_US.UTF-8"}, "ansi", true},
		"dumb terminal":         {Wish{}, env{"TERM": "dumb", "LANG": "en_US.UTF-8"}, "mono", true},
		"NO_COLOR":              {Wish{}, env{"NO_COLOR": "1"}, "mono", false},
		"NO_COLOR is empty":     {Wish{}, env{"NO_COLOR": ""}, "ansi", false},
		"forced":                {Wish{}, env{"NO_COLOR": "1", "CLICOLOR_FORCE": "1"}, "ansi", false},
		"force of 0":            {Wish{}, env{"NO_COLOR": "1", "CLICOLOR_FORCE": "0"}, "mono", false},
		"flag before NO_COLOR":  {Wish{Name: "ansi"}, env{"NO_COLOR": "1"}, "ansi", false},
		"--no-color":            {Wish{NoColor: true}, env{"CLICOLOR_FORCE": "1"}, "mono", false},
		"--theme=mono":          {Wish{Name: "mono"}, env{}, "mono", false},
		"--theme=mono --ascii":  {Wish{Name: "mono", ASCII: true}, env{}, "mono", true},
		"--ascii alone on utf8": {Wish{ASCII: true}, env{"LANG": "en_US.UTF-8"}, "ansi", true},
	} {
		th, err := Choose(c.wish, func(k string) string { return c.env[k] })
		if err != nil || th.Name != c.look || th.ASCII != c.ascii {
			t.Errorf("%s: %s, ascii %v, %v; want %s, ascii %v", name, th.Name, th.ASCII, err, c.look, c.ascii)
		}
	}
	if _, err := Choose(Wish{Name: "solarized"}, func(string) string { return "" }); err == nil {
		t.Error("an unknown theme is no error")
	}
}

// TestSymbols: the glyphs that stand in columns are one cell, and those of the
// ASCII look are ASCII.
func TestSymbols(t *testing.T) {
	for _, th := range []Theme{ANSI(), Mono(), ANSI().WithASCII()} {
		s := th.Sym
		cells := []string{s.Cursor, s.Thick, s.Thin, s.MarkFree, s.MarkRefused, s.Dot, s.Rule, s.Bar.Full, s.Bar.Track, s.Rail.Full, s.Rail.Track}
		cells = append(append(append(cells, s.Levels...), s.Bar.Parts...), s.Rail.Parts...)
		for _, b := range []draw.Border{s.Round, s.Heavy} {
			cells = append(cells, b.TopLeft, b.Top, b.TopRight, b.Left, b.Right, b.BottomLeft, b.Bottom, b.BottomRight)
		}
		for _, g := range cells {
			if ansi.StringWidth(g) != 1 || ansi.StringWidthWc(g) != 1 {
				t.Errorf("%s: %q is not one cell", th.Name, g)
			}
		}
		words := []string{s.Free, s.Refused, s.Waiting, s.Listen, s.Estab, s.None, s.Running, s.Warn, s.Stopped, s.Started}
		seen := map[string]bool{}
		for _, g := range words {
			if g == "" || seen[g] {
				t.Errorf("%s: %q is empty or has two meanings", th.Name, g)
			}
			seen[g] = true
		}
		for _, g := range append(cells, words...) {
			for _, r := range g {
				if th.ASCII && r > 0x7e {
					t.Errorf("%q in the ASCII look", g)
				}
			}
		}
	}
}

// TestMonoHasNoColour walks the styles of the look that NO_COLOR asks for.
func TestMonoHasNoColour(t *testing.T) {
	allowed := []draw.Style{"", draw.SGR(1), draw.SGR(2), draw.SGR(7), draw.SGR(1, 7)}
	v := reflect.ValueOf(Mono())
	styles := 0
	for i := range v.NumField() {
		st, ok := v.Field(i).Interface().(draw.Style)
		if !ok {
			continue
		}
		styles++
		found := false
		for _, a := range allowed {
			found = found || a == st
		}
		if !found {
			t.Errorf("%s is %q", v.Type().Field(i).Name, st)
		}
	}
	if styles < 8 {
		t.Errorf("only %d styles were looked at", styles)
	}
}
