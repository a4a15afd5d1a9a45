package gatewaylaunch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"berth/netstate"
	"berth/reclaim"
)

// Record is what a berth that ends leaves behind about a gateway that goes on,
// so that the next one finds it again.
type Record struct {
	Schema int    `json:"schema"`
	PID    int    `json:"pid"`
	Start  uint64 `json:"start"` // the kernel's start time of the process
	// Boot tells the start times of one boot from those of another, where the
	// system has a name for it.
	Boot    string    `json:"boot"`
	Command []string  `json:"command"`
	Dir     string    `json:"dir"`
	Host    string    `json:"host"`
	Port    uint16    `json:"port"`
	Log     string    `json:"log"`
	At      time.Time `json:"at"`
}

const (
	recordSchema = 1
	recordMost   = 1 << 20 // bytes of a file that are read
	// foundBack is how much of the log of a gateway that was found again is
	// shown.
	foundBack = 16 << 10
)

// errStranger says that the process of a record is not the one that was
// recorded.
var errStranger = errors.New("its process has ended")

// NewRecord describes the gateway that runs as pid.
func (l *Launcher) NewRecord(pid int) (Record, error) {
	id, err := netstate.IdentifyProcess(pid)
	if err != nil {
		return Record{}, err
	}
	r := Record{
		Schema: recordSchema, PID: id.PID, Start: id.Start, Boot: bootID(), Command: l.Command.Argv, Dir: l.Command.Dir,
		Host: l.Spec.Host(), Port: l.Spec.Port, At: time.Now().UTC(),
	}
	if l.Log != nil {
		r.Log = l.Log.Name()
	}
	return r, nil
}

// Write replaces the record at path. Only its owner may read it: a command line
// can hold secrets.
func (r *Record) Write(path string) error {
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	// A new file, so that neither a reader sees half of it nor a link leads
	// elsewhere.
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(append(data, '\n'))
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name()) // it is of no use to anybody
	}
	return err
}

// ReadRecord reads the record at path and checks that its process is still the
// one that was recorded. The error matches fs.ErrNotExist if there is none.
func ReadRecord(path string) (Record, error) {
	f, err := os.Open(path)
	if err != nil {
		return Record{}, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, recordMost))
	if err != nil {
		return Record{}, err
	}
	var r Record
	if err := json.Unmarshal(data, &r); err != nil || r.Schema != recordSchema || r.PID <= 1 || r.Port == 0 || len(r.Command) == 0 {
		return Record{}, fmt.Errorf("%s is no record of a gateway", path)
	}
	return r, r.check()
}

func (r *Record) id() netstate.ProcessID { return netstate.ProcessID{PID: r.PID, Start: r.Start} }

func (r *Record) check() error {
	now, err := netstate.IdentifyProcess(r.PID)
	if err != nil || now != r.id() || r.Boot != bootID() {
		return errStranger
	}
	return nil
}

// Started reports whether the record is of this command in this directory.
func (r *Record) Started(c Command) bool { return slices.Equal(r.Command, c.Argv) && r.Dir == c.Dir }

// RemoveRecord removes the record of a gateway that has ended, unless it is of
// another one by now.
func RemoveRecord(path string, pid int) error {
	if r, err := ReadRecord(path); err == nil && r.PID != pid {
		return nil
	}
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// bootID is empty where the system has none; there the time of the start, which
// counts from the epoch, tells boots apart.
func bootID() string {
	data, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}

// Adopt stays with a gateway that an earlier berth has started, as Run does with
// one of its own, until it ends: EventFound takes the place of EventStarted, and
// how it ended is not known, since only its parent is told. When ctx ends it is
// asked to end, as by Run. It is never started again.
func (l *Launcher) Adopt(ctx context.Context, rec Record, on func(Event)) error {
	r := &run{Launcher: l, on: on, pace: pace{Retry: l.Retry, began: time.Now()}}
	p, release, err := l.adopt(rec)
	if err != nil {
		return r.fail(err)
	}
	defer release()
	a := &attempt{pid: rec.PID}
	r.emit(Event{Kind: EventFound, PID: rec.PID})
	r.watch(ctx, p, a, time.Now())
	if a.left {
		p.out.drain()
		r.receive(p, a, nil)
		return ErrLeft
	}
	a.exit, a.took = p.reap(), time.Since(rec.At)
	p.out.drain()
	r.receive(p, a, nil)
	if a.stopped {
		r.emit(Event{Kind: EventStopped, PID: a.pid, Exit: a.exit, Took: time.Since(a.askedAt)})
		return ctx.Err()
	}
	r.emit(Event{Kind: EventExited, PID: a.pid, Exit: a.exit, Took: a.took})
	return nil
}

// adopt takes hold of the recorded process before it checks who that is.
func (l *Launcher) adopt(rec Record) (*process, func(), error) {
	held, err := new(reclaim.System).Open(netstate.Holder{ID: rec.id()})
	if err != nil {
		return nil, nil, err
	}
	release := func() { _ = held.Close() } // it only waited
	p := &process{pid: rec.PID, out: newOutputs(), exited: make(chan struct{})}
	if p.group, err = adoptGroup(rec.id()); err == nil {
		err = rec.check()
	}
	if err != nil {
		release()
		return nil, nil, err
	}
	go func() {
		<-held.Done()
		close(p.exited)
	}()
	if l.Log != nil {
		// Without its log the gateway is as good as with it.
		_ = p.out.follow(l.Log, foundBack)
	}
	p.out.started()
	return p, release, nil
}
