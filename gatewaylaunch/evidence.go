package gatewaylaunch

import (
	"context"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/charmbracelet/x/ansi"

	"berth/netstate"
)

// What servers say, in lower case and without escape sequences. The runtimes
// print these untranslated in every locale.
var (
	inUseWords = []string{
		"address already in use",                // strerror(EADDRINUSE) of every Unix
		"addrinuse",                             // EADDRINUSE of node, ruby, openclaw; AddrInUse of rust
		"only one usage of each socket address", // WSAEADDRINUSE
		"connection in use: (",                  // gunicorn, which prints no errno
	}
	deniedWords = []string{
		"eacces", "permission denied",
		"eaddrnotavail", "cannot assign requested address", "can't assign requested address",
		"forbidden by its access permissions",           // WSAEACCES
		"requested address is not valid in its context", // WSAEADDRNOTAVAIL
	}
	// lockWords: another OpenClaw gateway owns the same state directory, on
	// whatever port.
	lockWords = []string{"gateway already running", "owns gateway-lifecycle"}
)

// BindResult is one bind of the gateway itself that was watched, with what the
// kernel answered.
type BindResult struct {
	// Spec has the address and the options with which it was made.
	Spec netstate.BindSpec
	At   time.Time
	// Err is nil if the bind succeeded, otherwise the system's error.
	Err error
}

// lastWords is how many lines may follow the words about a taken address for
// them to count as what the gateway ended with: a version, a farewell. Lines of
// a stack trace are indented and do not count.
const lastWords = 3

// evidence is all that is known about an attempt that has ended.
type evidence struct {
	exit  ExitStatus
	ready bool // it listened
	// watched is the last of the gateway's own binds of a port that it did not
	// get elsewhere; nil if its binds were not watched, or it made none.
	watched *BindResult
	// heard is set if the output could be read, spoke if there was any.
	heard, spoke         bool
	inUse, denied, locks string // the first line that said so
	since                int    // lines after the last one that said inUse
	// before and after are what our own bind of the expected address met just
	// before the start and just after the end.
	before, after netstate.ErrClass
	// other is set if the expected address is free, and another one that the
	// gateway's last words can mean is refused.
	other bool
	// foreign is set if somebody else's listener was seen on the port during
	// the attempt.
	foreign bool
	// vague is set if nobody told the port and the words name no address, so
	// that no bind of ours can tell whether they are true.
	vague bool
}

// hear looks at one line of output.
func (e *evidence) hear(line string) {
	line = ansi.Strip(line)
	text := strings.ToLower(strings.TrimSpace(line))
	e.spoke = e.spoke || text != ""
	note := func(first *string, words []string) bool {
		said := slices.ContainsFunc(words, func(w string) bool { return strings.Contains(text, w) })
		if said && *first == "" {
			*first = line
		}
		return said
	}
	switch {
	case note(&e.inUse, inUseWords):
		e.since = 0
	case text != "" && !strings.HasPrefix(line, " ") && !strings.HasPrefix(line, "\t"):
		e.since++
	}
	note(&e.denied, deniedWords)
	note(&e.locks, lockWords)
}

// cause is why an attempt ended.
type cause int

const (
	causeOwn    cause = iota // its own reasons, which its status and output tell
	causeInUse               // its address was taken
	causeDenied              // its address can never be bound as things are
	causeLock                // another gateway owns its state
)

// cause judges, by the strongest evidence that there is: the bind itself, then
// the kernel's state around the attempt, then the words, which only choose
// among what the kernel leaves open. It is pure, so that every combination can
// be tested.
func (e *evidence) cause() cause {
	if e.exit.Code == 0 || e.ready {
		return causeOwn
	}
	if e.watched != nil {
		switch (netstate.Probe{Err: e.watched.Err}).Class() {
		case netstate.ClassInUse:
			return causeInUse
		case netstate.ClassDenied, netstate.ClassNoAddress:
			return causeDenied
		}
	}
	switch {
	case e.locks != "":
		return causeLock
	case e.watched != nil:
		return causeOwn // it got its address, whatever it said
	case e.inUse != "" && e.confirmed():
		return causeInUse
	case e.exit.Signal != 0:
		return causeOwn
	case e.refused(netstate.ClassDenied) || e.refused(netstate.ClassNoAddress):
		// The gateway may have rights that this process lacks (file
		// capabilities, sudo), so a refusal of our own bind is not enough
		// when the gateway can be heard and says something else.
		if e.denied != "" || !e.heard {
			return causeDenied
		}
	case e.refused(netstate.ClassInUse):
		// A gateway that speaks of something else ended because of that: a
		// wrong setting does not become a taken port by there being one.
		if !e.heard || !e.spoke {
			return causeInUse
		}
	case !e.heard && (e.before == netstate.ClassInUse || e.after == netstate.ClassInUse):
		return causeInUse
	}
	return causeOwn
}

// confirmed reports whether the kernel bears the gateway's words out. Programs
// log these words about other things too, such as a peer's trouble, so they
// prove nothing while a bind of the address succeeds.
func (e *evidence) confirmed() bool {
	last := e.since <= lastWords
	switch {
	case e.before == netstate.ClassInUse || e.after == netstate.ClassInUse:
		return true
	case e.other || e.foreign || e.vague:
		return last
	}
	// A bind that is refused for another reason hides whether the address is
	// taken: EACCES comes first. Then the words are all there is.
	return last && (e.before != netstate.ClassNone || e.after != netstate.ClassNone)
}

// unconfirmed returns the words of a gateway that spoke of a taken address
// while the kernel says that there was none.
func (e *evidence) unconfirmed() string {
	if e.cause() == causeOwn && !e.ready && e.exit.Code != 0 {
		return e.inUse
	}
	return ""
}

// refused reports whether both binds around the attempt were refused so.
func (e *evidence) refused(c netstate.ErrClass) bool { return e.before == c && e.after == c }

// suspects returns the binds that may have been refused, the likeliest first:
// the expected one, the addresses that the gateway's line names, or without
// such the wildcards; then the same without SO_REUSEADDR, which some servers
// do not set.
func suspects(spec netstate.BindSpec, line string) []netstate.BindSpec {
	specs := []netstate.BindSpec{spec}
	add := func(ap netip.AddrPort) {
		s := netstate.NewBindSpec(ap.Addr(), ap.Port())
		s.ReuseAddr, s.ReusePort, s.UID = spec.ReuseAddr, spec.ReusePort, spec.UID
		if !slices.Contains(specs, s) {
			specs = append(specs, s)
		}
	}
	if line != "" {
		named := addressesIn(line)
		for _, ap := range named {
			add(ap)
			if ap.Addr() == netip.IPv4Unspecified() {
				// Go says 0.0.0.0 and binds a dual-stack ::.
				add(netip.AddrPortFrom(netip.IPv6Unspecified(), ap.Port()))
			}
		}
		if len(named) == 0 {
			add(netip.AddrPortFrom(netip.IPv4Unspecified(), spec.Port))
			add(netip.AddrPortFrom(netip.IPv6Unspecified(), spec.Port))
		}
		if spec.ReuseAddr {
			for _, s := range slices.Clone(specs) {
				s.ReuseAddr = false
				specs = append(specs, s)
			}
		}
	}
	return specs
}

// findRefused makes the suspected binds until one is refused because the
// address is in use, and explains that one. It returns nil if none is. It
// must run only while no attempt is alive: a bind without SO_REUSEADDR can
// collide with a starting server.
func findRefused(ctx context.Context, k Kernel, specs []netstate.BindSpec) *netstate.Verdict {
	for _, spec := range specs {
		if k.TryBind(spec).Class() != netstate.ClassInUse {
			continue
		}
		v, err := k.Why(ctx, spec)
		if err == nil && !v.Bindable {
			return &v
		}
	}
	return nil
}

// addressesIn reads the addresses out of a line that says that one is in use.
// The forms are those of the servers in the table of evidence_test.go.
func addressesIn(line string) []netip.AddrPort {
	var found []netip.AddrPort
	add := func(host, port string) {
		if host == "" || host == "*" {
			host = "::" // Go's and Java's name for every address is dual-stack
		} else if host == "localhost" {
			host = "127.0.0.1"
		}
		addr, err := netip.ParseAddr(strings.Trim(host, "[]"))
		if err != nil {
			return
		}
		p, err := netstate.ParsePort(port)
		if ap := netip.AddrPortFrom(addr.Unmap(), p); err == nil && !slices.Contains(found, ap) {
			found = append(found, ap)
		}
	}
	// Python: ('127.0.0.1', 8080) and ('::1', 8080, 0, 0). Ruby: for
	// "127.0.0.1" port 8080. These split the address at the comma or space.
	for _, m := range regexp.MustCompile(`\('([^']*)', (\d+)|for "([^"]*)" port (\d+)`).FindAllStringSubmatch(line, -1) {
		add(m[1]+m[3], m[2]+m[4])
	}
	for _, token := range strings.FieldsFunc(line, func(r rune) bool { return strings.ContainsRune(" \t,;|(){}'\"<>", r) }) {
		if _, rest, ok := strings.Cut(token, "://"); ok {
			token = strings.TrimRight(rest, "/")
		}
		token = strings.TrimRight(token, ":.")
		if strings.HasPrefix(token, "[") && strings.HasSuffix(token, "]") {
			token = token[1 : len(token)-1] // haproxy: [127.0.0.1:8080]
		}
		// The last colon separates the port, also in node's unbracketed
		// :::8080 and ::1:8080.
		if i := strings.LastIndexByte(token, ':'); i >= 0 {
			add(token[:i], token[i+1:])
		}
	}
	return found
}
