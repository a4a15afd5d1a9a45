package gatewaylaunch

import (
	"bytes"
	"io"
	"os"
	"sync"
	"time"
	"unicode/utf8"
)

const (
	// lineLimit cuts a line, so that one without end costs no memory.
	lineLimit = 4 << 10
	// drainIdle and drainMost bound how long output is still read after the
	// gateway has ended. What it wrote lies in the pipe already; a descendant
	// that keeps the pipe open could write forever.
	drainIdle = 50 * time.Millisecond
	drainMost = time.Second
)

// outputLine is one line of one stream, without its newline.
type outputLine struct {
	stream Stream
	text   string
}

// A file tells nobody that it has grown, so one that the gateway writes by
// itself is looked at: often while it grows, since somebody may be reading
// along, and less and less often while it does not.
const (
	followSoon = 50 * time.Millisecond
	followLate = 400 * time.Millisecond
)

// outputs reads the gateway's output through pipes of its own, or from the
// file that it writes. The pipes of package exec would keep Wait waiting for
// every descendant.
type outputs struct {
	lines   chan outputLine // closed when all readers have ended
	readers sync.WaitGroup
	mine    []*os.File // our ends
	theirs  []*os.File // the gateway's ends, closed here once it has them
	ended   chan struct{}

	mu    sync.Mutex
	until time.Time // the end of draining; zero while the gateway lives
}

func newOutputs() *outputs {
	return &outputs{lines: make(chan outputLine, 64), ended: make(chan struct{})}
}

// follow reads what is appended to the file f from now on, and of what it holds
// already the last back bytes.
func (o *outputs) follow(f *os.File, back int64) error {
	r, err := os.Open(f.Name())
	if err != nil {
		return err
	}
	end, err := r.Seek(0, io.SeekEnd)
	if err == nil && back > 0 && end > 0 {
		_, err = r.Seek(max(0, end-back), io.SeekStart)
	}
	if err != nil {
		r.Close()
		return err
	}
	o.readers.Go(func() { o.tail(r, f) })
	return nil
}

// tail ends at the end of the file, once the gateway has ended, or at the
// latest drainMost after that.
func (o *outputs) tail(f, log *os.File) {
	defer f.Close()
	split := splitter{emit: func(s string) { o.lines <- outputLine{Both, s} }}
	defer split.end()
	pace := followSoon
	timer := time.NewTimer(pace)
	defer timer.Stop()
	buf := make([]byte, 32<<10)
	for {
		ended := false
		select {
		case <-o.ended:
			ended = true // what is read from here on is all there is
		default:
		}
		n, err := f.Read(buf)
		split.write(buf[:n])
		if n == 0 {
			rotate(f, log)
		}
		switch {
		case n > 0 && (!ended || o.draining()):
			pace = followSoon
			continue
		case n > 0 || ended || err != nil && err != io.EOF:
			return
		}
		timer.Reset(pace)
		select {
		case <-o.ended:
		case <-timer.C:
			pace = min(2*pace, followLate)
		}
	}
}

// draining reports whether there is time left to read what remains.
func (o *outputs) draining() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return time.Now().Before(o.until)
}

// pipe returns the file to give to the gateway as its stream. What it writes
// there is copied to tee, if that is not nil, and split into lines.
func (o *outputs) pipe(stream Stream, tee io.Writer) (*os.File, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	o.mine, o.theirs = append(o.mine, r), append(o.theirs, w)
	o.readers.Go(func() { o.read(r, stream, tee) })
	return w, nil
}

// started tells that the gateway has its ends, or never will.
func (o *outputs) started() {
	for _, f := range o.theirs {
		f.Close()
	}
	go func() {
		o.readers.Wait()
		close(o.lines)
	}()
}

// drain lets the readers end: at the end of the file, when nothing comes any
// more, or at the latest after drainMost. The lines must still be received.
func (o *outputs) drain() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.until.IsZero() {
		close(o.ended)
	}
	o.until = time.Now().Add(drainMost)
	for _, f := range o.mine {
		// An error means that the reader has closed its file already.
		_ = f.SetReadDeadline(time.Now().Add(drainIdle))
	}
}

// again grants a reader that found something more time, while there is any.
func (o *outputs) again(f *os.File) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.until.IsZero() {
		return
	}
	at := time.Now().Add(drainIdle)
	if at.After(o.until) {
		at = o.until
	}
	_ = f.SetReadDeadline(at) // it fails only if f is closed, and then Read does too
}

func (o *outputs) read(f *os.File, stream Stream, tee io.Writer) {
	defer f.Close()
	split := splitter{emit: func(s string) { o.lines <- outputLine{stream, s} }}
	buf := make([]byte, 32<<10)
	for {
		n, err := f.Read(buf)
		if n > 0 && tee != nil {
			if _, err := tee.Write(buf[:n]); err != nil {
				// Closing our end lets the gateway see the broken pipe that
				// it would have seen without us.
				return
			}
		}
		split.write(buf[:n])
		if err != nil {
			split.end()
			return
		}
		o.again(f)
	}
}

// splitter cuts a stream into lines and lines at lineLimit.
type splitter struct {
	emit func(string)
	line []byte
	open bool // the line has begun, though it may be empty
}

func (s *splitter) write(b []byte) {
	for len(b) > 0 {
		part, rest, ended := bytes.Cut(b, []byte{'\n'})
		s.open = true
		s.line = append(s.line, part[:min(len(part), lineLimit-len(s.line))]...)
		if b = rest; ended {
			s.end()
		}
	}
}

// end emits the line that has begun, if any.
func (s *splitter) end() {
	if !s.open {
		return
	}
	line := bytes.TrimSuffix(s.line, []byte{'\r'})
	if len(s.line) == lineLimit {
		line = trimPartialRune(line)
	}
	s.emit(string(line))
	s.line, s.open = s.line[:0], false
}

// trimPartialRune removes the beginning of a character that the limit cut.
func trimPartialRune(line []byte) []byte {
	for i := len(line) - 1; i >= 0 && i >= len(line)-utf8.UTFMax; i-- {
		if utf8.RuneStart(line[i]) {
			if !utf8.FullRune(line[i:]) {
				return line[:i]
			}
			break
		}
	}
	return line
}
