package screen

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/charmbracelet/x/ansi"
)

// TestCastReplays plays a recording on a small terminal of its own and finds
// each frame on it at its time.
func TestCastReplays(t *testing.T) {
	var list []Frame
	for i, view := range []string{
		"a\n\x1b[31mbb\x1b[m",
		"xxxxxxxx\n\x1b[31mbb\x1b[m\nc", // A full row: erasing behind it would take its last cell.
		"xx  xxxx",
		"xx漢xxx字",
		"xxx漢xx\x1b[1m字\x1b[m\n漢字漢字",
		"\x1b[7m        \x1b[m\nab字cd字",
		"        \n漢字",
		"",
	} {
		list = append(list, Frame{Parse(view, 8, 3), time.Duration(i+1) * 100 * time.Millisecond})
	}
	lines := bytes.Split(bytes.TrimSpace(Cast("a title", list)), []byte("\n"))

	var header map[string]any
	if err := json.Unmarshal(lines[0], &header); err != nil {
		t.Fatal(err)
	}
	if want := "map[height:3 title:a title version:2 width:8]"; fmt.Sprint(header) != want {
		t.Errorf("header %v, want %s", header, want)
	}

	screen := Parse("", 8, 3)
	at := make(map[float64]string) // The screen after the events of each moment.
	write := regexp.MustCompile(`\x1b\[(\d+);(\d+)H((?:[^\x1b]|\x1b\[[0-9;]*m)*)(\x1b\[K)?`)
	var end float64
	for _, line := range lines[1:] {
		var event []any
		if err := json.Unmarshal(line, &event); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if event[0].(float64) < end || event[1] != "o" {
			t.Errorf("event %s: want output, and no earlier than %v", line, end)
		}
		end = event[0].(float64)
		data := event[2].(string)
		if rest := write.ReplaceAllString(data, ""); rest != "" && rest != "\x1b[?25l\x1b[2J\x1b[H" {
			t.Errorf("event %s has %q beside pieces of rows", line, rest)
		}
		for _, m := range write.FindAllStringSubmatch(data, -1) {
			y, err := strconv.Atoi(m[1])
			if err != nil {
				t.Fatal(err)
			}
			x, err := strconv.Atoi(m[2])
			if err != nil {
				t.Fatal(err)
			}
			n := ansi.StringWidth(m[3])
			row := screen.Row(y - 1)[x-1:]
			if copy(row, Parse(m[3], n, 1).Cells) != n {
				t.Errorf("event %s writes behind the end of row %d", line, y)
			}
			if m[4] != "" {
				if n == len(row) {
					t.Errorf("event %s erases the last cell of row %d, which it has just written", line, y)
				}
				copy(row[n:], Parse("", len(row)-n, 1).Cells)
			}
		}
		at[end] = fmt.Sprint(screen.Cells)
	}

	var start time.Duration
	for i, f := range list {
		got, ok := at[start.Seconds()]
		if !ok {
			t.Errorf("nothing is written at %v for frame %d", start, i)
		} else if want := fmt.Sprint(f.Grid.Cells); got != want {
			t.Errorf("frame %d at %v shows\n%s\nwant\n%s", i, start, got, want)
		}
		start += f.Hold
	}
	if end != start.Seconds() {
		t.Errorf("the recording ends at %v s, want %v: the last frame is cut short", end, start.Seconds())
	}
}
