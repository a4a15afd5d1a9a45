package netstate

import (
	"bufio"
	"bytes"
	"errors"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

// units reads the unit files of one manager of systemd, as they are on disk: a
// change that was not loaded yet (systemctl daemon-reload) is already seen.
type units struct {
	root fs.FS
	// dirs are the directories of systemd.unit(5), the first counting most.
	dirs []string
	// active has a link "invocation:UNIT" for each unit that runs; empty if
	// this manager keeps none that may be read.
	active string
}

func systemUnits(root fs.FS) units {
	return units{root: root, active: "run/systemd/units", dirs: []string{
		"etc/systemd/system.control", "run/systemd/system.control", "run/systemd/transient", "run/systemd/generator.early",
		"etc/systemd/system", "etc/systemd/system.attached", "run/systemd/system", "run/systemd/system.attached", "run/systemd/generator",
		"usr/local/lib/systemd/system", "usr/lib/systemd/system", "lib/systemd/system", "run/systemd/generator.late",
	}}
}

// userUnits takes the user's home directory, absolute.
func userUnits(root fs.FS, home string, uid int) units {
	home = strings.TrimPrefix(home, "/")
	run := "run/user/" + strconv.Itoa(uid) + "/systemd/"
	return units{root: root, active: run + "units", dirs: []string{
		home + "/.config/systemd/user.control", run + "user.control", run + "transient", run + "generator.early",
		home + "/.config/systemd/user", "etc/systemd/user", run + "user", "run/systemd/user", run + "generator",
		home + "/.local/share/systemd/user", "usr/local/share/systemd/user", "usr/share/systemd/user",
		"usr/local/lib/systemd/user", "usr/lib/systemd/user", "lib/systemd/user", run + "generator.late",
	}}
}

// restarts says what Restart= of a service means for one that is stopped by a
// signal. The policies that look at how it ended are unknown: SIGTERM is a
// clean end and SIGKILL is not.
func (u units) restarts(unit string) Tri {
	values, err := u.values(unit, "Service", "Restart")
	if err != nil {
		return Unknown
	}
	value := "no"
	if len(values) > 0 {
		value = values[len(values)-1]
	}
	switch value {
	case "no", "": // empty means the default again
		return No
	case "always", "on-success":
		return Yes
	}
	return Unknown
}

// restartDelay is RestartSec= of a service, 0 if it cannot be read.
func (u units) restartDelay(unit string) time.Duration {
	values, err := u.values(unit, "Service", "RestartSec")
	switch {
	case err != nil:
		return 0
	case len(values) == 0:
		return 100 * time.Millisecond // the default of systemd.service(5)
	}
	return timeSpan(values[len(values)-1])
}

// timeSpan reads a span of systemd.time(7), such as "5", "1min 30s" or "250ms";
// 0 if it is none.
func timeSpan(text string) time.Duration {
	var sum time.Duration
	text = strings.ReplaceAll(text, " ", "")
	for text != "" {
		digits := strings.IndexFunc(text, func(c rune) bool { return (c < '0' || c > '9') && c != '.' })
		if digits < 0 {
			digits = len(text)
		}
		n, err := strconv.ParseFloat(text[:digits], 64)
		if err != nil {
			return 0
		}
		text = text[digits:]
		letters := strings.IndexAny(text, "0123456789.")
		if letters < 0 {
			letters = len(text)
		}
		unit, ok := timeUnits[text[:letters]]
		if text = text[letters:]; !ok || n*float64(unit) > float64(24*time.Hour) {
			return 0
		}
		sum += time.Duration(n * float64(unit))
	}
	return sum
}

var timeUnits = map[string]time.Duration{
	"": time.Second, "us": time.Microsecond, "usec": time.Microsecond, "ms": time.Millisecond, "msec": time.Millisecond,
	"s": time.Second, "sec": time.Second, "second": time.Second, "seconds": time.Second,
	"m": time.Minute, "min": time.Minute, "minute": time.Minute, "minutes": time.Minute,
	"h": time.Hour, "hr": time.Hour, "hour": time.Hour, "hours": time.Hour,
}

// socketsOn returns the active socket units that listen on a port.
func (u units) socketsOn(protocol Protocol, port uint16) []string {
	key := "ListenStream"
	if protocol == UDP {
		key = "ListenDatagram"
	}
	entries, err := fs.ReadDir(u.root, u.active)
	if err != nil {
		return nil
	}
	var found []string
	for _, e := range entries {
		unit, ok := strings.CutPrefix(e.Name(), "invocation:")
		if !ok || !strings.HasSuffix(unit, ".socket") {
			continue
		}
		addresses, err := u.values(unit, "Socket", key)
		if err != nil {
			continue
		}
		if slices.ContainsFunc(addresses, func(a string) bool { return listensOn(a, port) }) {
			found = append(found, unit)
		}
	}
	return found
}

// listensOn reads an address of systemd.socket(5): a port alone, or an address
// and a port; paths and vsock are others.
func listensOn(address string, port uint16) bool {
	if strings.HasPrefix(address, "vsock:") {
		return false
	}
	address, _, _ = strings.Cut(address, "%") // an interface may follow
	number := address[strings.LastIndexByte(address, ':')+1:]
	return number == strconv.Itoa(int(port))
}

// values returns what a key of a unit is set to, in order; setting it to
// nothing forgets what came before. The error matches fs.ErrNotExist if there
// is no such unit, and says which file could not be read otherwise.
func (u units) values(unit, section, key string) ([]string, error) {
	names := unitNames(unit)
	var main []byte
	err := fs.ErrNotExist
	for _, name := range names {
		if main, err = u.first(name); !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	if err != nil {
		return nil, err
	}
	dropIns, err := u.dropIns(names)
	if err != nil {
		return nil, err
	}
	var values []string
	for _, text := range append([][]byte{main}, dropIns...) {
		values = appendValues(values, text, section, key)
	}
	return values, nil
}

// unitNames lists the files that can define a unit: its own, and for an
// instance the template's.
func unitNames(unit string) []string {
	names := []string{unit}
	if prefix, instance, ok := strings.Cut(unit, "@"); ok && !strings.HasPrefix(instance, ".") {
		names = append(names, prefix+"@"+path.Ext(unit))
	}
	return names
}

// first reads a file from the directory that counts most.
func (u units) first(name string) ([]byte, error) {
	for _, dir := range u.dirs {
		b, err := fs.ReadFile(u.root, path.Join(dir, name))
		if !errors.Is(err, fs.ErrNotExist) {
			return b, err
		}
	}
	return nil, fs.ErrNotExist
}

// dropIns reads the additions to a unit in the order in which they apply, that
// of their file names. One in a directory that counts more hides those of the
// same name.
func (u units) dropIns(names []string) ([][]byte, error) {
	var dirs []string
	for _, name := range names {
		dirs = append(dirs, name+".d")
	}
	// "a-b-.service.d" adds to every unit that begins so, "service.d" to all.
	ext := path.Ext(names[0])
	stem := strings.TrimSuffix(names[len(names)-1], ext)
	for i := len(stem) - 1; i > 0; i-- {
		if stem[i] == '-' {
			dirs = append(dirs, stem[:i+1]+ext+".d")
		}
	}
	dirs = append(dirs, strings.TrimPrefix(ext, ".")+".d")

	files := map[string][]byte{}
	var order []string
	for _, d := range dirs {
		for _, root := range u.dirs {
			entries, err := fs.ReadDir(u.root, path.Join(root, d))
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return nil, err
			}
			for _, e := range entries {
				if _, hidden := files[e.Name()]; hidden || !strings.HasSuffix(e.Name(), ".conf") {
					continue
				}
				b, err := fs.ReadFile(u.root, path.Join(root, d, e.Name()))
				if err != nil {
					return nil, err
				}
				files[e.Name()] = b
				order = append(order, e.Name())
			}
		}
	}
	slices.Sort(order)
	texts := make([][]byte, len(order))
	for i, name := range order {
		texts[i] = files[name]
	}
	return texts, nil
}

func appendValues(values []string, text []byte, section, key string) []string {
	in := ""
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		line := strings.TrimSpace(lines.Text())
		switch {
		case strings.HasPrefix(line, "["):
			in = strings.Trim(line, "[]")
		case in != section || strings.HasPrefix(line, "#") || strings.HasPrefix(line, ";"):
		default:
			name, value, ok := strings.Cut(line, "=")
			if !ok || strings.TrimSpace(name) != key {
				continue
			}
			if value = strings.TrimSpace(value); value == "" {
				values = values[:0]
			} else {
				values = append(values, value)
			}
		}
	}
	return values
}

// unitsOf returns the unit files that a supervisor of systemd works by, and
// the account for its commands; ok is false for other supervisors.
type unitsOf func(s *Supervisor, h *Holder) (u units, user *account, ok bool)

// complete adds to a holder's supervisor what it takes files to know: whether
// systemd restarts the service, and which socket unit has a port.
func (s *Supervisor) complete(h *Holder, scope Scope, port uint16, of unitsOf) *Supervisor {
	u, user, ok := of(s, h)
	if !ok {
		return s
	}
	c := *s
	if c.Name != "" && c.Restarts == Unknown {
		c.Restarts = u.restarts(c.Name)
		// Only the end of the main process ends the service, and what has
		// another parent than the manager is rarely that.
		if c.Restarts == Yes && (len(h.Parents) == 0 || !isSystemd(h.Parents[0].Name)) {
			c.Restarts = Unknown
		}
		if c.Restarts != No {
			c.Delay = u.restartDelay(c.Name)
		}
	}
	if c.HoldsPort && c.Find != "" {
		if sockets := u.socketsOn(scope.Protocol, port); len(sockets) == 1 {
			stop := sockets
			if c.Name == "" {
				c.Name = sockets[0]
				c.Restart = systemctl(user, "restart", sockets[0])
			} else {
				stop = append(stop, c.Name)
			}
			c.Find, c.Stop = "", systemctl(user, "stop", stop...)
		}
	}
	return &c
}

// completeSupervisors does so for every holder of a verdict's blockers. The
// holders are shared with the owners that they came from, so they are copied.
func completeSupervisors(v *Verdict, of unitsOf) {
	done := map[*Supervisor]*Supervisor{}
	for _, blockers := range [][]Blocker{v.Blockers, v.Possible} {
		for i := range blockers {
			b := &blockers[i]
			copied := false
			for j := range b.Holders {
				s := b.Holders[j].Supervisor
				if s == nil {
					continue
				}
				if done[s] == nil {
					done[s] = s.complete(&b.Holders[j], v.Spec.Scope, v.Spec.Port, of)
				}
				if done[s] == s {
					continue
				}
				if !copied {
					b.Holders, copied = slices.Clone(b.Holders), true
				}
				b.Holders[j].Supervisor = done[s]
			}
		}
	}
}
