package screen

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// Cast returns the frames as an asciicast v2 recording, for asciinema and its
// players (https://docs.asciinema.org/manual/asciicast/v2/). The screen is that
// of the first frame. From one frame to the next only what changes is written.
// The recording carries no date, so it is the same each time.
func Cast(title string, frames []Frame) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	put := func(v any) {
		if err := enc.Encode(v); err != nil {
			panic(err) // Strings and numbers always encode.
		}
	}
	var screen Grid
	if len(frames) > 0 {
		screen = Parse("", frames[0].Grid.Width, frames[0].Grid.Height)
	}
	put(struct {
		Version int    `json:"version"`
		Width   int    `json:"width"`
		Height  int    `json:"height"`
		Title   string `json:"title"`
	}{2, screen.Width, screen.Height, title})

	var at time.Duration
	event := func(data string) {
		put([]any{json.RawMessage(seconds(at)), "o", data})
	}
	event("\x1b[?25l\x1b[2J\x1b[H")
	for _, f := range frames {
		if data := redraw(screen, f.Grid); data != "" {
			event(data)
		}
		screen = f.Grid
		at += f.Hold
	}
	// Players stop at the last event: an empty one keeps the last frame up.
	event("")
	return b.Bytes()
}

// redraw returns what turns the screen old into next, which has the same
// size: of each row, the cells from the first that differs to the last.
func redraw(old, next Grid) string {
	var b strings.Builder
	for y := range min(old.Height, next.Height) {
		was, is := old.Row(y), next.Row(y)
		from, to := 0, len(is)
		for from < to && was[from] == is[from] {
			from++
		}
		for to > from && was[to-1] == is[to-1] {
			to--
		}
		if from == to {
			continue
		}
		// A wide character that changes differs in its first cell. Writing
		// that cell writes the covered one with it, inside the range or not.
		fmt.Fprintf(&b, "\x1b[%d;%dH%s", y+1, from+1, encode(is[from:to]))
		if blank := to - from - len(trim(is[from:to])); len(trim(is[to:])) == 0 && blank > 0 {
			b.WriteString("\x1b[K") // All behind is blank too.
		} else {
			b.WriteString(strings.Repeat(" ", blank))
		}
	}
	return b.String()
}

// seconds formats d with milliseconds, as a JSON number.
func seconds(d time.Duration) string {
	ms := d.Milliseconds()
	return fmt.Sprintf("%d.%03d", ms/1000, ms%1000)
}
