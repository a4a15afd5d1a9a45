package screen

import "fmt"

// rgb is a colour as the browser gets it.
type rgb struct{ r, g, b uint8 }

func (c rgb) String() string { return fmt.Sprintf("#%02x%02x%02x", c.r, c.g, c.b) }

// The window's own colours. The background is close to GitHub's dark page but
// not the same, and the border stands out from a light page and a dark one.
var (
	background = rgb{0x12, 0x16, 0x1d}
	foreground = rgb{0xd9, 0xe0, 0xe8}
	titleBar   = rgb{0x1d, 0x23, 0x2d}
	titleText  = rgb{0xa3, 0xae, 0xbd}
	border     = rgb{0x3a, 0x43, 0x50}
	button     = rgb{0x4a, 0x55, 0x65}
)

// palette has the sixteen colours at their Color; Default stands for the text
// colour. All but black, which is for backgrounds, can be read on the
// background with a contrast of at least 4.5:1 (WCAG 2.2, 1.4.3), faint too.
var palette = [...]rgb{
	Default:       foreground,
	Black:         {0x2b, 0x32, 0x3d},
	Red:           {0xff, 0x86, 0x7c},
	Green:         {0x5f, 0xd3, 0x8d},
	Yellow:        {0xf0, 0xbf, 0x4f},
	Blue:          {0x6c, 0xb6, 0xff},
	Magenta:       {0xd4, 0x9b, 0xff},
	Cyan:          {0x4f, 0xd6, 0xd9},
	White:         {0xc5, 0xcd, 0xd8},
	BrightBlack:   {0xa2, 0xad, 0xbb},
	BrightRed:     {0xff, 0xa1, 0x98},
	BrightGreen:   {0x8a, 0xe6, 0xae},
	BrightYellow:  {0xf7, 0xd5, 0x84},
	BrightBlue:    {0x9d, 0xcd, 0xff},
	BrightMagenta: {0xe4, 0xbf, 0xff},
	BrightCyan:    {0x86, 0xe8, 0xec},
	BrightWhite:   {0xff, 0xff, 0xff},
}

// How much of the background faint text has, and faint lines, in percent.
// Lines need a contrast of 3:1 only (WCAG 2.2, 1.4.11), and frames that recede
// leave the page to the words.
const (
	faintText = 28
	faintLine = 46
)

// mix returns c with percent of d in it.
func mix(c, d rgb, percent int) rgb {
	m := func(a, b uint8) uint8 {
		return uint8((int(a)*(100-percent) + int(b)*percent + 50) / 100)
	}
	return rgb{m(c.r, d.r), m(c.g, d.g), m(c.b, d.b)}
}

// colors returns what the text and the background of a cell of this style are
// painted with. Bold does not brighten: it has a weight of its own here.
func (s Style) colors() (text, back rgb) {
	return s.mixed(faintText)
}

// line returns what box drawing characters of this style are painted with.
func (s Style) line() rgb {
	line, _ := s.mixed(faintLine)
	return line
}

// mixed returns the colours of s where Faint adds percent of the background.
func (s Style) mixed(percent int) (text, back rgb) {
	text, back = palette[s.FG], background
	if s.BG != Default {
		back = palette[s.BG]
	}
	if s.Attr&Faint != 0 {
		text = mix(text, back, percent)
	}
	if s.Attr&Reverse != 0 {
		text, back = back, text
	}
	return text, back
}
