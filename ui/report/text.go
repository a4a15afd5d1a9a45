package report

import (
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"

	"berth/gatewaylaunch"
	"berth/netstate"
	"berth/ui/draw"
)

// Text writes reports for people to W. The zero values of its options give
// plain Unicode.
type Text struct {
	W io.Writer
	// ASCII replaces symbols that not every terminal can show.
	ASCII bool
	// Color allows bold and red. Nothing depends on it.
	Color bool
	// UID is the reader's user number, so that a holder can be called yours;
	// -1 if the system has none.
	UID int

	err error // the first error of W
}

// Clean makes text safe to show on one line: what another process wrote
// cannot move the cursor, and in ASCII nothing else is left.
func (t *Text) Clean(s string) string { return draw.Fit(s, math.MaxInt, t.ASCII) }

func (t *Text) mark(unicode, ascii string) string {
	if t.ASCII {
		return ascii
	}
	return unicode
}

func (t *Text) bold(s string) string { return t.sgr("1", s) }
func (t *Text) red(s string) string  { return t.sgr("1;31", s) }

func (t *Text) sgr(code, s string) string {
	if !t.Color {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

// line writes one line. After an error of W nothing more is written.
func (t *Text) line(format string, args ...any) {
	if t.err == nil {
		_, t.err = fmt.Fprintf(t.W, format+"\n", args...)
	}
}

// Name is how a holder is called in a sentence: "node 4211 (alice)", "nginx
// 4211 (root, docker 3f2a61c09b1e)".
func (t *Text) Name(h netstate.Holder) string {
	s := "pid " + strconv.Itoa(h.ID.PID)
	if h.Name != "" {
		s = t.Clean(h.Name) + " " + strconv.Itoa(h.ID.PID)
	}
	var about []string
	if who := t.user(h); who != "" {
		about = append(about, who)
	}
	if h.Container != "" {
		about = append(about, t.Clean(h.Container))
	}
	if len(about) > 0 {
		s += " (" + strings.Join(about, ", ") + ")"
	}
	return s
}

// user is "you", the user's name or number, or empty if it is not known.
func (t *Text) user(h netstate.Holder) string {
	switch {
	case h.UID >= 0 && h.UID == t.UID:
		return "you"
	case h.User != "":
		return t.Clean(h.User)
	case h.UID >= 0:
		return "uid " + strconv.Itoa(h.UID)
	}
	return ""
}

func (t *Text) names(hs []netstate.Holder) string {
	all := make([]string, len(hs))
	for i, h := range hs {
		all[i] = t.Name(h)
	}
	return strings.Join(all, ", ")
}

// command is a command line as a person would type it into a shell.
func (t *Text) command(argv []string) string {
	return t.Clean(gatewaylaunch.Command{Argv: argv}.String())
}

// duration prints a length of time as precisely as a person can use it.
func duration(d time.Duration) string {
	switch {
	case d < 0:
		return "0 s"
	case d < time.Second:
		return strconv.FormatInt(d.Milliseconds(), 10) + " ms"
	case d < 100*time.Second:
		return strconv.FormatFloat(d.Seconds(), 'f', 1, 64) + " s"
	case d < time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 24*time.Hour:
		return fmt.Sprintf("%d h %02d min", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%d d %d h", int(d.Hours())/24, int(d.Hours())%24)
}

// clock is the time of day that ends the line of an event.
func clock(at time.Time) string { return at.Local().Format("15:04:05.000") }

// table aligns columns by what is in them, two spaces apart. Cells hold no
// styling; the last column is not padded.
func table(rows [][]string) []string {
	var widths []int
	for _, row := range rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], draw.Width(cell))
		}
	}
	lines := make([]string, len(rows))
	for n, row := range rows {
		var b strings.Builder
		for i, cell := range row {
			b.WriteString(cell)
			if i < len(row)-1 {
				b.WriteString(strings.Repeat(" ", widths[i]-draw.Width(cell)+2))
			}
		}
		lines[n] = strings.TrimRight(b.String(), " ")
	}
	return lines
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + many
}

// trimPeriod lets a sentence stand inside another.
func trimPeriod(s string) string { return strings.TrimSuffix(strings.TrimSpace(s), ".") }
