package netstate

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// summarize says a verdict in one sentence: whether, who, until when.
func summarize(v *Verdict) string {
	if v.Bindable {
		return summarizeFree(v)
	}
	switch v.Reason {
	case ReasonDenied:
		if v.Spec.Port < 1024 {
			return fmt.Sprintf("%s cannot be bound: ports below 1024 need a privilege that this user does not have.", v.Spec)
		}
		return fmt.Sprintf("%s cannot be bound: the system does not permit it to this user.", v.Spec)
	case ReasonNoAddress:
		return fmt.Sprintf("%s cannot be bound: %s.", v.Spec, noAddress(v))
	case ReasonUnknown:
		if v.Errno == "EADDRINUSE" {
			return fmt.Sprintf("%s cannot be bound, and no visible socket explains it: another user's or another namespace's may.", v.Spec)
		}
		return fmt.Sprintf("%s cannot be bound: %v.", v.Spec, v.Err)
	}
	// "One of 3 sockets" is certain though none of them is.
	if !v.Blockers[0].Certain && (len(v.Blockers) == 1 || v.Reason != ReasonLingering) {
		return fmt.Sprintf("%s cannot be bound, probably because %s.", v.Spec, cause(v))
	}
	return fmt.Sprintf("%s cannot be bound: %s.", v.Spec, cause(v))
}

// noAddress tells the refusals of an address apart: EADDRNOTAVAIL is plain,
// while EINVAL and ENODEV stand for what is wrong with the way it is written.
func noAddress(v *Verdict) string {
	addr := v.Spec.Addr
	switch {
	case v.Errno == "EINVAL" && v.Spec.Family == INET6 && addr.Is4() && v.Spec.V6Only:
		return "a socket with IPV6_V6ONLY takes no IPv4-mapped address (EINVAL)"
	case v.Errno == "EINVAL" && addr.Is6() && addr.IsMulticast():
		return addr.String() + " is a multicast address, which no TCP server can bind (EINVAL)"
	case v.Errno == "EINVAL" && addr.IsLinkLocalUnicast() && addr.Zone() == "":
		return fmt.Sprintf("a link-local address needs its interface, as in %s%%eth0 (EINVAL)", addr)
	case (v.Errno == "EINVAL" || v.Errno == "ENODEV") && addr.Zone() != "":
		return fmt.Sprintf("this machine has no interface %s (%s)", PlainName(addr.Zone()), v.Errno)
	}
	return v.Spec.Host() + " is not an address of this machine"
}

func summarizeFree(v *Verdict) string {
	opts := ""
	if v.Spec.ReuseAddr {
		opts = " with SO_REUSEADDR"
	}
	left := v.Counts[TimeWait]
	switch {
	case v.Unsure:
		return fmt.Sprintf("%s can be bound%s unless %s set no SO_REUSEADDR; only a real bind tells.", v.Spec, opts, plural(len(v.Blockers), "the server of the one socket left", "the servers of the %d sockets left"))
	case left > 0 && v.Spec.ReuseAddr:
		return fmt.Sprintf("%s can be bound now: SO_REUSEADDR ignores the %s there.", v.Spec, plural(left, "TIME-WAIT socket", "%d TIME-WAIT sockets"))
	}
	return fmt.Sprintf("%s can be bound now.", v.Spec)
}

// cause names the first blocker of the deciding kind and counts the others.
func cause(v *Verdict) string {
	var first *Blocker
	var same int
	for i := range v.Blockers {
		if b := &v.Blockers[i]; reasonFor(&b.Socket) == v.Reason {
			if same++; first == nil {
				first = b
			}
		}
	}
	s := &first.Socket
	switch v.Reason {
	case ReasonHeld:
		does := "listens on"
		if s.State == Unconn {
			does = "has the UDP port"
		}
		return fmt.Sprintf("%s %s %s%s", v.who(first), does, s.Local, dualStack(v.Spec, s))
	case ReasonBound:
		return fmt.Sprintf("%s has bound %s without listening, which lsof and ss do not show", v.who(first), s.Local)
	case ReasonInUse:
		if first.Outbound == Yes {
			return fmt.Sprintf("%s uses the port as its own end of an outgoing connection to %s (%s)%s", v.who(first), s.Remote, s.State, others(same))
		}
		return fmt.Sprintf("%s holds a connection %s → %s (%s)%s", v.who(first), s.Local, s.Remote, s.State, others(same))
	}
	return lingering(v, first, same)
}

// who holds a blocker, as far as that can be told.
func (v *Verdict) who(b *Blocker) string {
	switch {
	case len(b.Holders) > 0:
		return v.holdersText(b.Holders)
	case !b.Socket.Owned():
		return "a server that has not accepted it yet"
	case v.Caps.AllHolders && v.Caps.Inodes:
		// Every process was looked into. Such sockets belong to the kernel's
		// own servers, or to a process in a pid namespace above this one.
		return "the kernel itself (as for VXLAN, WireGuard or NFS) or a process outside this container"
	}
	return HoldersText(nil)
}

func lingering(v *Verdict, first *Blocker, same int) string {
	state := first.Socket.State.String()
	var what string
	switch {
	case !v.Spec.ReuseAddr:
		what = plural(same, "a "+state+" socket blocks", "%d TIME-WAIT or closing sockets block") + " a bind without SO_REUSEADDR"
	case first.Outbound == Yes && same == 1:
		what = "a " + state + " socket, left by an outgoing connection, blocks it"
	default:
		what = plural(same, "a "+state+" socket", "one of %d TIME-WAIT or closing sockets") + ", left by a server or client without SO_REUSEADDR, blocks it"
	}
	if !v.Clears.Known() {
		return what + ", with no fixed end"
	}
	return fmt.Sprintf("%s for %s more", what, Seconds(v.Clears.From.Sub(v.At)))
}

// dualStack explains why a listener on another address is in the way.
func dualStack(b BindSpec, s *Socket) string {
	switch {
	case s.Local.Addr().Is6() && s.Local.Addr().IsUnspecified() && b.Addr.Is4():
		return ", which is dual-stack and takes IPv4 too"
	case s.Local.Addr().IsUnspecified() && !b.Addr.IsUnspecified():
		return ", which means every address"
	}
	return ""
}

func others(n int) string {
	if n <= 1 {
		return ""
	}
	return fmt.Sprintf(", and %d more", n-1)
}

func plural(n int, one, many string) string {
	if n == 1 {
		return one
	}
	if strings.Contains(many, "%d") {
		return fmt.Sprintf(many, n)
	}
	return many
}

// holdersText is HoldersText without the container that the network namespace
// of the bind is called by, since what is said names that already.
func (v *Verdict) holdersText(hs []Holder) string {
	if len(hs) > 0 && hs[0].Container != "" && hs[0].Container == v.Spec.NetNS.Name {
		hs = slices.Clone(hs)
		hs[0].Container = ""
	}
	return HoldersText(hs)
}

// HoldersText names holders in a sentence: "node (pid 4211, alice)", "nginx
// (pid 4211, root, docker 3f2a61c09b1e)", "node (pid 4211, alice; 2 more
// processes share its socket)", or what can be said if none is visible.
func HoldersText(hs []Holder) string {
	if len(hs) == 0 {
		return "a process that this user may not see"
	}
	h := hs[0]
	name := PlainName(h.Name)
	if name == "" {
		name = "a process"
	}
	text := fmt.Sprintf("%s (pid %d", name, h.ID.PID)
	if h.User != "" {
		text += ", " + PlainName(h.User)
	}
	if h.Container != "" {
		text += ", " + PlainName(h.Container)
	}
	switch n := len(hs) - 1; {
	case n == 1:
		text += "; 1 more process shares its socket"
	case n > 1:
		text += fmt.Sprintf("; %d more processes share its socket", n)
	}
	return text + ")"
}

// PlainName makes a name that another process chose safe to print: what is
// not a visible character becomes "?", so that no escape sequence, newline or
// change of writing direction reaches a terminal or a log.
func PlainName(name string) string {
	return strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsGraphic(r) || unicode.Is(unicode.Bidi_Control, r) {
			return '?'
		}
		return r
	}, name)
}

// Seconds prints a duration as people read a countdown: "57.2 s".
func Seconds(d time.Duration) string {
	return fmt.Sprintf("%.1f s", max(0, d.Seconds()))
}
