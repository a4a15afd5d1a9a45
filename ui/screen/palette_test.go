package screen

import (
	"math"
	"testing"
)

// contrast is the contrast ratio of two colours (WCAG 2.2).
func contrast(a, b rgb) float64 {
	luminance := func(c rgb) float64 {
		part := func(v uint8) float64 {
			f := float64(v) / 255
			if f <= 0.04045 {
				return f / 12.92
			}
			return math.Pow((f+0.055)/1.055, 2.4)
		}
		return 0.2126*part(c.r) + 0.7152*part(c.g) + 0.0722*part(c.b)
	}
	l, m := luminance(a), luminance(b)
	return (max(l, m) + 0.05) / (min(l, m) + 0.05)
}

// Every colour that berth writes in can be read: plain, faint, and with the
// cursor row's reversed colours.
func TestContrast(t *testing.T) {
	const enough = 4.5
	for c := Default; c <= BrightWhite; c++ {
		if c == Black {
			continue
		}
		for _, attr := range []Attr{0, Faint, Reverse, Faint | Reverse} {
			text, back := Style{FG: c, Attr: attr}.colors()
			if got := contrast(text, back); got < enough {
				t.Errorf("colour %d with attributes %b has a contrast of %.2f, want %.1f", c, attr, got, enough)
			}
		}
	}
	for c := Default; c <= BrightWhite; c++ {
		if got := contrast(Style{FG: c, Attr: Faint}.line(), background); c != Black && got < 3 {
			t.Errorf("faint lines of colour %d have a contrast of %.2f, want 3", c, got)
		}
	}
	if got := contrast(titleText, titleBar); got < enough {
		t.Errorf("the title has a contrast of %.2f, want %.1f", got, enough)
	}
}

// Faint text is told apart from plain text.
func TestFaintIsFainter(t *testing.T) {
	for c := Default; c <= BrightWhite; c++ {
		plain, _ := Style{FG: c}.colors()
		faint, _ := Style{FG: c, Attr: Faint}.colors()
		if got := contrast(plain, faint); c != Black && got < 1.6 {
			t.Errorf("faint and plain colour %d have a contrast of %.2f, want 1.6", c, got)
		}
	}
}
