package gatewaylaunch

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"berth/netstate"
)

// InUseError says that the gateway could not get its address, either because
// all attempts were refused or because waiting cannot help in time. It
// unwraps to EADDRINUSE.
type InUseError struct {
	// Verdict explains the refusal and names who holds the port. It is zero if
	// the gateway said that the address was taken and nothing visible confirms
	// it. Its Spec is the address that was refused, which may be another one
	// than expected.
	Verdict  netstate.Verdict
	Attempts int
	Elapsed  time.Duration
	// Exit is how the last attempt ended, and Said the line in which it told
	// that the address was taken; empty if it did not or could not be heard.
	Exit ExitStatus
	Said string
	// TooLate is set if attempts were left but the port clears by itself only
	// after the last of them.
	TooLate bool
	// Loop is set if attempts were left, and the last ones were all refused
	// although nothing seemed to be in the way when they were started.
	Loop bool
}

func (e *InUseError) Error() string {
	tried := fmt.Sprintf("after %s in %s", attemptsText(e.Attempts), netstate.Seconds(e.Elapsed))
	v := &e.Verdict
	if v.At.IsZero() {
		return fmt.Sprintf("the gateway could not get its address %s, and nothing visible holds it: it said %q", tried, plain(e.Said))
	}
	var text string
	switch holders := v.Holders(); {
	case e.Loop:
		text = fmt.Sprintf("%s was refused %d times in a row, although it could be bound before each start: %s", v.Spec, loopLimit, strings.TrimSuffix(v.Summary, "."))
	case e.TooLate:
		text = fmt.Sprintf("%s; the retries would all come too early", strings.TrimSuffix(v.Summary, "."))
	case len(holders) == 0:
		text = fmt.Sprintf("%s is still taken %s: %s", v.Spec, tried, strings.TrimSuffix(v.Summary, "."))
	default:
		text = fmt.Sprintf("%s is still taken %s: held by %s", v.Spec, tried, holdersText(holders))
	}
	if e.Said == "" {
		text += fmt.Sprintf("; the gateway itself ended with %s and was not heard to say why", e.Exit)
	}
	return text
}

// Unwrap returns the system's refusal.
func (e *InUseError) Unwrap() error {
	if addressInUse(e.Verdict.Err) {
		return e.Verdict.Err
	}
	return syscall.EADDRINUSE
}

// Hint returns what would help, the least harmful first.
func (e *InUseError) Hint() string {
	if e.Loop {
		return "something takes the port whenever it is free, or the command starts a second server by itself: look at what takes it, and end that first"
	}
	return firstCure(&e.Verdict)
}

// BindError says that this address can never be bound as things are, because
// of its port, its host or the user: EACCES, EADDRNOTAVAIL. It unwraps to
// that error.
type BindError struct {
	Verdict netstate.Verdict
	Exit    ExitStatus
	// Watched is the refusal of the gateway's own bind, if that was seen. The
	// verdict is about a bind of this process, which may have more rights.
	Watched error
}

func (e *BindError) Error() string {
	if e.Verdict.Bindable && e.Watched != nil {
		return fmt.Sprintf("the gateway ended with %s: its bind of %s was refused (%v), though this process could make it", e.Exit, e.Verdict.Spec, e.Watched)
	}
	return fmt.Sprintf("the gateway ended with %s: %s", e.Exit, strings.TrimSuffix(e.Verdict.Summary, "."))
}

// Unwrap returns the system's refusal.
func (e *BindError) Unwrap() error {
	if e.Watched != nil {
		return e.Watched
	}
	return e.Verdict.Err
}

// Hint returns what would help.
func (e *BindError) Hint() string { return firstCure(&e.Verdict) }

// LockError says that another gateway owns the lock of the same state, so
// that no port would help and no waiting either.
type LockError struct {
	// Line is the gateway's own sentence, not cleaned.
	Line string
	Exit ExitStatus
}

func (e *LockError) Error() string {
	return fmt.Sprintf("another gateway owns this one's state, whatever the port: it said %q and ended with %s", plain(e.Line), e.Exit)
}

// Hint returns what would help.
func (e *LockError) Hint() string {
	return "stop the other gateway, or give this one a state directory of its own (OPENCLAW_STATE_DIR)"
}

// NotReadyError says that the gateway is not ready yet, and what is missing. It
// is reported, not returned: the gateway goes on.
type NotReadyError struct {
	Spec   netstate.BindSpec
	Waited time.Duration
	// Listens is where its tree listens, if anywhere, and Missing where it was
	// expected to as well.
	Listens string
	Missing []netip.AddrPort
	// Health is set if only that is missing.
	Health *Health
	// Err is what is wrong with its health, or the error of reading the socket
	// table, if that is why nothing is known.
	Err error
}

func (e *NotReadyError) Error() string {
	after := netstate.Seconds(e.Waited)
	switch {
	case e.Health != nil:
		return fmt.Sprintf("the gateway listens on %s, but is not healthy by %s after %s: %v", e.Listens, plain(e.Health.URL.Redacted()), after, e.Err)
	case e.Err != nil:
		return fmt.Sprintf("whether the gateway listens on port %d is not known: %v", e.Spec.Port, e.Err)
	case e.Listens != "":
		var missing []string
		for _, a := range e.Missing {
			missing = append(missing, a.String())
		}
		return fmt.Sprintf("the gateway listens on %s, but not on %s after %s", e.Listens, strings.Join(missing, " and "), after)
	}
	return fmt.Sprintf("the gateway runs, but does not listen on port %d after %s", e.Spec.Port, after)
}

// Unwrap returns Err.
func (e *NotReadyError) Unwrap() error { return e.Err }

// Hint returns what would help.
func (e *NotReadyError) Hint() string {
	switch {
	case e.Err != nil || e.Health != nil:
		return ""
	case e.Listens != "":
		return "if it is to serve there only, name that address with --host"
	}
	return "if it serves on another port, name that one with --port"
}

// HungError says that the gateway listens and does not accept: its accept queue
// only grows. It is reported, not returned.
type HungError struct {
	Addr string
	// Waiting connections are in the queue, after Since of them Took ago.
	Waiting, Since int
	Took           time.Duration
}

func (e *HungError) Error() string {
	return fmt.Sprintf("the gateway accepts no connection on %s: %d wait, %s ago %d did", e.Addr, e.Waiting, netstate.Seconds(e.Took), e.Since)
}

// Hint returns what would help.
func (e *HungError) Hint() string {
	return "it may be busy, stopped or deadlocked: restart it if it stays so"
}

// StartError says that the command could not be started at all. It unwraps to
// the system's error.
type StartError struct {
	Command Command
	Err     error
	reason  string
	hint    string
}

func (e *StartError) Error() string { return e.reason }

// Unwrap returns Err.
func (e *StartError) Unwrap() error { return e.Err }

// Hint returns what would help.
func (e *StartError) Hint() string { return e.hint }

// errNoProgram is the StartError's cause when the command has no words, or
// only assignments.
var errNoProgram = errors.New("no program")

// newStartError finds out what a failed start means for the person, since the
// same ENOENT stands for a missing directory, program or interpreter.
func newStartError(c Command, err error) *StartError {
	e := &StartError{Command: c, Err: err}
	_, program := splitAssignments(c.Argv)
	if len(program) == 0 {
		e.reason, e.hint = "there is no command to start", "give it after --, such as -- node server.js"
		return e
	}
	name := program[0]
	path := name
	if !filepath.IsAbs(name) && c.Dir != "" {
		path = filepath.Join(c.Dir, name)
	}
	switch {
	case c.User != nil && errors.Is(err, syscall.EPERM):
		e.reason, e.hint = fmt.Sprintf("cannot start %s as %s: only root may", plain(name), plain(c.User.Name)), "run it with sudo"
	case c.Dir != "" && !isDir(c.Dir):
		e.reason, e.hint = fmt.Sprintf("cannot start %s: %q is not a directory that can be entered", plain(name), c.Dir), "name an existing directory"
	case errors.Is(err, exec.ErrDot):
		e.reason, e.hint = fmt.Sprintf("cannot start %q: it was found only in the current directory", name), fmt.Sprintf("write .%c%s if that is the one", filepath.Separator, name)
	case errors.Is(err, exec.ErrNotFound):
		e.reason, e.hint = fmt.Sprintf("cannot start %q: there is no such command in PATH", name), "check the spelling, or give the program's path"
	case errors.Is(err, fs.ErrNotExist) && exists(path):
		e.reason, e.hint = fmt.Sprintf("cannot start %q: the interpreter in its first line does not exist", name), "correct its #! line, or start it through its interpreter"
	case errors.Is(err, fs.ErrNotExist):
		e.reason, e.hint = fmt.Sprintf("cannot start %q: there is no such file", name), "check the path"
	case errors.Is(err, fs.ErrPermission) && isDir(path):
		e.reason, e.hint = fmt.Sprintf("cannot start %q: it is a directory", name), "give the program in it"
	case errors.Is(err, fs.ErrPermission):
		e.reason, e.hint = fmt.Sprintf("cannot start %q: this user may not execute it", name), fmt.Sprintf("chmod +x %s, or start it through its interpreter", shellJoin([]string{name}))
	case errors.Is(err, syscall.ENOEXEC):
		e.reason, e.hint = fmt.Sprintf("cannot start %q: it is not a program of this system", name), "if it is a script, give it a #! line or start it through its interpreter"
	default:
		e.reason = fmt.Sprintf("cannot start %q: %v", name, err)
	}
	return e
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// String returns "status 1" or "signal 9".
func (s ExitStatus) String() string {
	if !s.Known() {
		return "a status that only its starter was told"
	}
	if s.Signal != 0 {
		return fmt.Sprintf("signal %d", s.Signal)
	}
	return fmt.Sprintf("status %d", s.Code)
}

func firstCure(v *netstate.Verdict) string {
	if len(v.Cures) == 0 {
		return ""
	}
	c := v.Cures[0]
	if c.Command == "" {
		return c.Text
	}
	return c.Text + ": " + c.Command
}

// holdersText names up to three holders with their command.
func holdersText(holders []netstate.Holder) string {
	var names []string
	for i, h := range holders {
		if i == 3 {
			names = append(names, fmt.Sprintf("%d more", len(holders)-i))
			break
		}
		text := netstate.HoldersText(holders[i : i+1])
		if len(h.Cmdline) > 0 {
			text += fmt.Sprintf(" “%s”", plain(shellJoin(h.Cmdline)))
		}
		names = append(names, text)
	}
	return strings.Join(names, ", ")
}

// plain makes another program's text safe to print and short enough to read.
func plain(s string) string {
	const most = 200
	if r := []rune(s); len(r) > most {
		s = string(r[:most]) + "…"
	}
	return netstate.PlainName(s)
}
