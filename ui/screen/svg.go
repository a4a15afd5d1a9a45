package screen

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"time"
)

// The window around the screen: a title bar with three buttons, and a margin.
const (
	barHeight length = 3400
	margin    length = 1200
)

const fonts = `ui-monospace,SFMono-Regular,"SF Mono",Menlo,Consolas,"DejaVu Sans Mono","Liberation Mono",monospace`

// Still returns g as an SVG picture of a terminal window with the given title.
func Still(title string, g Grid) []byte {
	return Animation(title, []Frame{{Grid: g}})
}

// Animation returns the frames as one SVG picture that plays them in a loop.
// All frames have the size of the first. Each mark is in the picture once,
// whatever number of frames it is in, and a CSS animation shows it in those.
// A viewer without CSS animation, and one whose person asked for reduced
// motion, shows the last frame.
func Animation(title string, frames []Frame) []byte {
	var p picture
	for i, f := range frames {
		for _, m := range marks(f.Grid) {
			p.add(m, i)
		}
	}
	p.arrange(len(frames))

	var size Grid
	if len(frames) > 0 {
		size = frames[0].Grid
	}
	var body bytes.Buffer
	p.write(&body)
	var b bytes.Buffer
	window(&b, title, column(size.Width), row(size.Height), p.css(frames), body.Bytes())
	return b.Bytes()
}

// picture is what the frames draw on the way to SVG.
type picture struct {
	// marks are in the order in which they come, and seen says in which
	// frames each is: "01100" is in the second and the third.
	marks []mark
	seen  map[mark][]byte
	// groups hold the marks that are in the same frames. Those that lie under
	// the others come first.
	groups []*group
	looks  classes
}

// group is the marks of one layer that are in the same frames.
type group struct {
	name   string // Its class, empty when it is in all frames.
	frames string // As in picture.seen.
	marks  []mark
}

func (p *picture) add(m mark, frame int) {
	if p.seen == nil {
		p.seen = make(map[mark][]byte)
	}
	in, ok := p.seen[m]
	if !ok {
		p.marks = append(p.marks, m)
	}
	for len(in) < frame {
		in = append(in, '0')
	}
	if len(in) == frame { // A mark may be drawn twice, as a line under two attributes.
		in = append(in, '1')
	}
	p.seen[m] = in
}

// arrange sorts the marks of n frames into groups.
func (p *picture) arrange(n int) {
	names := make(map[string]string)
	for _, under := range []bool{true, false} {
		byFrames := make(map[string]*group)
		for _, m := range p.marks {
			if m.under != under {
				continue
			}
			in := string(p.seen[m])
			in += strings.Repeat("0", n-len(in))
			g := byFrames[in]
			if g == nil {
				g = &group{name: names[in], frames: in}
				if g.name == "" && strings.Contains(in, "0") {
					g.name = fmt.Sprintf("f%d", len(names))
					names[in] = g.name
				}
				byFrames[in] = g
				p.groups = append(p.groups, g)
			}
			g.marks = append(g.marks, m)
		}
	}
}

// write writes the groups: of each, the marks that look the same as one path,
// then the text.
func (p *picture) write(b *bytes.Buffer) {
	for _, g := range p.groups {
		if g.name != "" {
			fmt.Fprintf(b, "<g class=\"%s\">", g.name)
		}
		var looks []string
		paths := make(map[string]string)
		uprights := make(map[string][]segment)
		for _, m := range g.marks {
			if m.text != "" {
				continue
			}
			if !slices.Contains(looks, m.look) {
				looks = append(looks, m.look)
			}
			if m.path != "" {
				paths[m.look] += m.path
			} else {
				uprights[m.look] = append(uprights[m.look], m.upright)
			}
		}
		for _, look := range looks {
			fmt.Fprintf(b, "<path%s d=\"%s%s\"/>\n", p.looks.attr(look), paths[look], joined(uprights[look]))
		}
		for _, m := range g.marks {
			if m.text == "" {
				continue
			}
			size := ""
			if m.n > 1 { // One glyph has no spacing to adjust.
				size = fmt.Sprintf(" textLength=\"%v\"", column(m.n))
			}
			fmt.Fprintf(b, "<text x=\"%v\" y=\"%v\"%s%s>%s</text>\n",
				column(m.x), row(m.y)+baseline, size, p.looks.attr(m.look), escape(m.text))
		}
		if g.name != "" {
			b.WriteString("</g>\n")
		}
	}
}

// css returns the rules for the looks, and for the times at which each group
// is shown.
func (p *picture) css(frames []Frame) string {
	var b strings.Builder
	b.WriteString(p.looks.rules.String())
	var total time.Duration
	for _, f := range frames {
		total += f.Hold
	}
	moves := total >= time.Millisecond
	if moves {
		fmt.Fprintf(&b, "\ng{animation:%ss steps(1,end) infinite}", seconds(total))
	}
	written := make(map[string]bool)
	for _, g := range p.groups {
		if g.name == "" || written[g.name] {
			continue
		}
		written[g.name] = true
		if g.frames[len(frames)-1] == '0' {
			fmt.Fprintf(&b, "\n.%s{visibility:hidden}", g.name)
		}
		if moves {
			fmt.Fprintf(&b, "\n.%s{animation-name:%s}@keyframes %s{%s}", g.name, g.name, g.name, keyframes(g.frames, frames, total))
		}
	}
	if moves {
		b.WriteString("\n@media(prefers-reduced-motion:reduce){g{animation:none}}")
	}
	return b.String()
}

// keyframes returns the moments at which what is in these frames comes and
// goes, in percent of the total time.
func keyframes(in string, frames []Frame, total time.Duration) string {
	var b strings.Builder
	var at time.Duration
	for i, f := range frames {
		if i == 0 || in[i] != in[i-1] {
			state := "hidden"
			if in[i] == '1' {
				state = "visible"
			}
			// A thousandth of a percent of a minute is less than a millisecond.
			part := at.Microseconds() * 100_000 / total.Microseconds()
			fmt.Fprintf(&b, "%d.%03d%%{visibility:%s}", part/1000, part%1000, state)
		}
		at += f.Hold
	}
	return b.String()
}

// classes names the looks that a picture uses. A name is given when a look is
// first asked for, so the same picture has the same names.
type classes struct {
	names map[string]string
	rules strings.Builder
}

// attr returns a class attribute for the CSS declarations, none for none.
// Names are letters only, which groups' names are not.
func (c *classes) attr(css string) string {
	if css == "" {
		return ""
	}
	name, ok := c.names[css]
	if !ok {
		n := len(c.names)
		if n >= 26 {
			name = string(rune('a' + n/26 - 1))
		}
		name += string(rune('a' + n%26))
		if c.names == nil {
			c.names = make(map[string]string)
		}
		c.names[css] = name
		fmt.Fprintf(&c.rules, ".%s{%s}", name, css)
	}
	return fmt.Sprintf(` class="%s"`, name)
}

// window writes the picture: a terminal window around a screen of w×h.
//
//	╭──────────────────────────────╮
//	│ o o o        title           │  bar
//	├──────────────────────────────┤
//	│  ┌────────────────────────┐  │
//	│  │ body                   │  │  an svg of its own, which cuts off
//	│  └────────────────────────┘  │  what sticks out
//	╰──────────────────────────────╯
func window(b *bytes.Buffer, title string, w, h length, css string, body []byte) {
	outerW := (w + 2*margin + 99) / 100 * 100 // Whole pixels, as the border needs.
	outerH := barHeight + h + 2*margin
	title = escape(title)
	frame := fmt.Sprintf("<rect x=\".5\" y=\".5\" width=\"%v\" height=\"%v\" rx=\"9.5\"", outerW-100, outerH-100)

	fmt.Fprintf(b, "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%v\" height=\"%v\" viewBox=\"0 0 %v %v\" role=\"img\">\n",
		outerW, outerH, outerW, outerH)
	fmt.Fprintf(b, "<title>%s</title>\n", title)
	fmt.Fprintf(b, "<style>svg{fill:%v;font:14px %s;font-variant-ligatures:none;font-variant-emoji:text}"+
		"path{stroke-linecap:square}%s</style>\n", foreground, fonts, css)
	fmt.Fprintf(b, "%s fill=\"%v\"/>\n", frame, background)
	fmt.Fprintf(b, "<path d=\"M.5 %vV10a9.5 9.5 0 0 1 9.5-9.5H%va9.5 9.5 0 0 1 9.5 9.5V%vz\" fill=\"%v\"/>\n",
		barHeight, outerW-1000, barHeight, titleBar)
	fmt.Fprintf(b, "<path d=\"M.5 %vH%v\" stroke=\"%v\"/>\n", barHeight-50, outerW-50, border)
	for i := range 3 {
		fmt.Fprintf(b, "<circle cx=\"%v\" cy=\"17\" r=\"5.5\" fill=\"%v\"/>\n", 2000+1900*length(i), button)
	}
	fmt.Fprintf(b, "<text x=\"%v\" y=\"21.5\" text-anchor=\"middle\" fill=\"%v\" font-size=\"13\">%s</text>\n",
		outerW/2, titleText, title)
	fmt.Fprintf(b, "%s fill=\"none\" stroke=\"%v\"/>\n", frame, border)
	fmt.Fprintf(b, "<svg x=\"%v\" y=\"%v\" width=\"%v\" height=\"%v\">\n%s</svg>\n</svg>\n",
		margin, barHeight+margin, w, h, body)
}
