package gatewaylaunch

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// LogMost bounds the log of a gateway in the background: beyond it the log
// becomes the old one, and what was the old one is gone.
const LogMost = 8 << 20

// OldLog is the name of the older half of a log.
func OldLog(path string) string { return path + ".1" }

// OpenLog opens a log to be appended to. Only its owner may read it, since
// servers print secrets.
func OpenLog(path string) (*os.File, error) {
	wrap := func(err error) error { return fmt.Errorf("cannot keep the gateway's output: %w", err) }
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, wrap(err)
	}
	if info, err := os.Stat(path); err == nil && info.Size() > LogMost {
		if err := os.Rename(path, OldLog(path)); err != nil {
			return nil, wrap(err)
		}
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, wrap(err)
	}
	return f, nil
}

// rotate empties a log that a running gateway has filled, after a copy: the
// gateway goes on writing to the file that it has, whose end is its beginning
// then. What it writes between the two is lost. r has read the log to its end.
// Without a copy nothing is emptied, since a full disk is no reason to lose what
// tells why.
func rotate(r, log *os.File) {
	at, err := r.Seek(0, io.SeekCurrent)
	if err != nil {
		return
	}
	info, err := r.Stat()
	switch {
	case err != nil:
		return
	case info.Size() < at:
		// Somebody else has emptied it.
		_, _ = r.Seek(0, io.SeekStart)
		return
	case at <= LogMost:
		return
	}
	old, err := os.OpenFile(OldLog(log.Name()), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return
	}
	defer old.Close()
	if _, err := io.Copy(old, io.NewSectionReader(r, 0, at)); err != nil {
		return
	}
	if log.Truncate(0) == nil {
		_, _ = r.Seek(0, io.SeekStart)
	}
}
