package cli

import (
	"bytes"
	"io"
)

// prefixed puts "berth: " before each line, so that berth's own lines can be
// told from those of the command that shares the terminal with it.
type prefixed struct {
	w   io.Writer
	mid bool // a line has begun
}

func (p *prefixed) Write(b []byte) (int, error) {
	var out []byte
	for _, line := range bytes.SplitAfter(b, []byte{'\n'}) {
		if len(line) == 0 {
			continue
		}
		if !p.mid {
			out = append(out, "berth: "...)
		}
		out = append(out, line...)
		p.mid = line[len(line)-1] != '\n'
	}
	if _, err := p.w.Write(out); err != nil {
		return 0, err
	}
	return len(b), nil
}
