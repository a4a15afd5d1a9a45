package gatewaylaunch

import (
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestSplitter(t *testing.T) {
	x := strings.Repeat("x", lineLimit)
	for _, tt := range []struct {
		name, in string
		want     []string
	}{
		{"lines", "a\nbc\n", []string{"a", "bc"}},
		{"the last without newline", "a\nb", []string{"a", "b"}},
		{"empty lines", "\n\na\n", []string{"", "", "a"}},
		{"carriage returns", "a\r\nb\rc\r\n", []string{"a", "b\rc"}},
		{"nothing", "", nil},
		{"a line of the limit", x + "\nb\n", []string{x, "b"}},
		{"a longer line", x + "yyy\nb\n", []string{x, "b"}},
		{"a character at the limit", x[1:] + "é\n", []string{x[1:]}},
		{"bytes that are no characters", "\xff\xfe\n", []string{"\xff\xfe"}},
	} {
		for _, chunk := range []int{1, 7, len(tt.in) + 1} {
			var got []string
			s := splitter{emit: func(line string) { got = append(got, line) }}
			for in := tt.in; in != ""; in = in[min(chunk, len(in)):] {
				s.write([]byte(in[:min(chunk, len(in))]))
			}
			if s.end(); !slices.Equal(got, tt.want) {
				t.Errorf("%s in chunks of %d: %.60q, want %.60q", tt.name, chunk, got, tt.want)
			}
		}
	}
}

func FuzzSplitter(f *testing.F) {
	f.Add("a\r\n\nb", 3)
	f.Add(strings.Repeat("é", lineLimit), 1000)
	f.Fuzz(func(t *testing.T, in string, chunk int) {
		chunk = 1 + max(0, chunk)%5000
		var lines []string
		s := splitter{emit: func(line string) { lines = append(lines, line) }}
		for rest := in; rest != ""; rest = rest[min(chunk, len(rest)):] {
			s.write([]byte(rest[:min(chunk, len(rest))]))
		}
		s.end()
		want := strings.Split(strings.TrimSuffix(in, "\n"), "\n")
		if in == "" {
			want = nil
		}
		if len(lines) != len(want) {
			t.Fatalf("%d lines, want %d", len(lines), len(want))
		}
		for i, line := range lines {
			if full := strings.TrimSuffix(want[i], "\r"); len(want[i]) < lineLimit && line != full || !strings.HasPrefix(want[i], line) {
				t.Fatalf("line %d is %.40q of %.40q", i, line, want[i])
			}
			if utf8.ValidString(in) && !utf8.ValidString(line) {
				t.Fatalf("line %d was cut inside a character", i)
			}
		}
	})
}
