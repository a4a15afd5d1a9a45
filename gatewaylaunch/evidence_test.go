package gatewaylaunch

import (
	"fmt"
	"net/netip"
	"syscall"
	"testing"

	"berth/netstate"
)

// What servers print when their address is taken, and the address in it.
func TestHearAndAddresses(t *testing.T) {
	for _, tt := range []struct{ server, line, addrs string }{
		{"openclaw", "2026-11-23T14:02:18.604Z [gateway] failed: another gateway instance is already listening on ws://127.0.0.1:8080 | listen EADDRINUSE: address already in use 127.0.0.1:8080 | EADDRINUSE", "[127.0.0.1:8080]"},
		{"node", "Error: listen EADDRINUSE: address already in use 127.0.0.1:8080", "[127.0.0.1:8080]"},
		{"node ::", "Error: listen EADDRINUSE: address already in use :::8080", "[[::]:8080]"},
		{"node ::1", "Error: listen EADDRINUSE: address already in use ::1:8080", "[[::1]:8080]"},
		{"node inspector", "Starting inspector on 127.0.0.1:9229 failed: address already in use", "[127.0.0.1:9229]"},
		{"node, coloured", "\x1b[31mError: listen \x1b[1mEADDR\x1b[22mINUSE\x1b[0m: address already in use \x1b[4m127.0.0.1:8080\x1b[0m", "[127.0.0.1:8080]"},
		{"go", "2026/11/23 14:02:18 listen tcp 127.0.0.1:8080: bind: address already in use", "[127.0.0.1:8080]"},
		{"go :", "listen tcp :8080: bind: address already in use", "[[::]:8080]"},
		{"go ::", "listen tcp [::]:8080: bind: address already in use", "[[::]:8080]"},
		{"python", "OSError: [Errno 98] Address already in use", "[]"},
		{"asyncio", "OSError: [Errno 98] error while attempting to bind on address ('127.0.0.1', 8080): address already in use", "[127.0.0.1:8080]"},
		{"asyncio 6", "OSError: [Errno 98] error while attempting to bind on address ('::1', 8080, 0, 0): address already in use", "[[::1]:8080]"},
		{"nginx", "nginx: [emerg] bind() to 127.0.0.1:8080 failed (98: Address already in use)", "[127.0.0.1:8080]"},
		{"nginx 6", "nginx: [emerg] bind() to [::]:8080 failed (98: Address already in use)", "[[::]:8080]"},
		{"redis", "# Warning: Could not create server TCP listening socket 127.0.0.1:8080: bind: Address already in use", "[127.0.0.1:8080]"},
		{"redis *", "# Warning: Could not create server TCP listening socket *:8080: bind: Address already in use", "[[::]:8080]"},
		{"java", "java.net.BindException: Address already in use", "[]"},
		{"rust", `called Result::unwrap() on an Err value: Os { code: 98, kind: AddrInUse, message: "Address already in use" }`, "[]"},
		{"php", "[Mon Nov 23 14:02:18 2026] Failed to listen on 127.0.0.1:8080 (reason: Address already in use)", "[127.0.0.1:8080]"},
		{"php localhost", "Failed to listen on localhost:8080 (reason: Address already in use)", "[127.0.0.1:8080]"},
		{"ruby", `Address already in use - bind(2) for "127.0.0.1" port 8080 (Errno::EADDRINUSE)`, "[127.0.0.1:8080]"},
		{"nc", "nc: Address already in use", "[]"},
		{"socat", "2026/11/23 14:02:18 socat[42] E bind(5, {AF=2 0.0.0.0:8080}, 16): Address already in use", "[0.0.0.0:8080]"},
		{"haproxy", "[ALERT] (1) : Binding [haproxy.cfg:9] for frontend f: cannot bind socket (Address already in use) for [127.0.0.1:8080]", "[127.0.0.1:8080]"},
		{"apache", "(98)Address already in use: AH00072: make_sock: could not bind to address 127.0.0.1:8080", "[127.0.0.1:8080]"},
		{"gunicorn", "[2026-11-23 14:02:18 +0000] [42] [ERROR] Connection in use: ('127.0.0.1', 8080)", "[127.0.0.1:8080]"},
		{"windows", "listen tcp 127.0.0.1:8080: bind: Only one usage of each socket address (protocol/network address/port) is normally permitted.", "[127.0.0.1:8080]"},
		{"v4-mapped", "bind [::ffff:127.0.0.1]:8080: address already in use", "[127.0.0.1:8080]"},
		{"two", "address already in use: 127.0.0.1:8080, [::1]:8080", "[127.0.0.1:8080 [::1]:8080]"},
	} {
		t.Run(tt.server, func(t *testing.T) {
			e := evidence{exit: ExitStatus{Code: 1}, heard: true, before: netstate.ClassInUse}
			e.hear("something else before")
			e.hear(tt.line)
			e.hear("something else after")
			if e.cause() != causeInUse {
				t.Fatalf("cause %v, heard %+v", e.cause(), e)
			}
			if got := fmt.Sprint(addressesIn(e.inUse)); got != tt.addrs {
				t.Errorf("addresses %s, want %s", got, tt.addrs)
			}
		})
	}
}

func TestHearNothing(t *testing.T) {
	blank := evidence{heard: true}
	if blank.hear(" \x1b[0m"); blank.spoke {
		t.Error("a blank line counts as words")
	}
	for _, line := range []string{
		"Error: Cannot find module './server.js'",
		"listening on http://127.0.0.1:8080",
		"the address is already used as a variable name",
		"",
	} {
		e := evidence{exit: ExitStatus{Code: 1}, heard: true}
		if e.hear(line); e.cause() != causeOwn || e.inUse+e.denied+e.locks != "" {
			t.Errorf("%q was heard as %+v", line, e)
		}
	}
}

func TestCause(t *testing.T) {
	const none, inUse, denied, noAddress = netstate.ClassNone, netstate.ClassInUse, netstate.ClassDenied, netstate.ClassNoAddress
	failed := ExitStatus{Code: 1}
	killed := ExitStatus{Code: 137, Signal: 9}
	for _, tt := range []struct {
		name string
		evidence
		want cause
	}{
		{"words alone", evidence{exit: failed, heard: true, inUse: "x"}, causeOwn},
		{"words, refused before", evidence{exit: failed, heard: true, inUse: "x", before: inUse}, causeInUse},
		{"words, refused after", evidence{exit: failed, heard: true, inUse: "x", after: inUse}, causeInUse},
		{"words, refused before, more said after", evidence{exit: failed, heard: true, inUse: "x", since: 99, before: inUse}, causeInUse},
		{"words of another address that is refused", evidence{exit: failed, heard: true, inUse: "x", other: true}, causeInUse},
		{"the same, more said after", evidence{exit: failed, heard: true, inUse: "x", other: true, since: lastWords + 1}, causeOwn},
		{"words, a stranger listened meanwhile", evidence{exit: failed, heard: true, inUse: "x", foreign: true}, causeInUse},
		{"the same, more said after", evidence{exit: failed, heard: true, inUse: "x", foreign: true, since: lastWords + 1}, causeOwn},
		{"a stranger listened meanwhile, no words", evidence{exit: failed, heard: true, foreign: true}, causeOwn},
		{"words without an address, port unknown", evidence{exit: failed, heard: true, inUse: "x", vague: true}, causeInUse},
		{"the same, more said after", evidence{exit: failed, heard: true, inUse: "x", vague: true, since: lastWords + 1}, causeOwn},
		{"words of a gateway that aborts", evidence{exit: ExitStatus{Code: 134, Signal: 6}, heard: true, inUse: "x", after: inUse}, causeInUse},
		{"words of a gateway that is killed", evidence{exit: killed, heard: true, inUse: "x"}, causeOwn},
		{"its bind was refused, watched", evidence{exit: failed, heard: true, spoke: true, watched: &BindResult{Err: syscall.EADDRINUSE}}, causeInUse},
		{"the same, killed", evidence{exit: killed, watched: &BindResult{Err: syscall.EADDRINUSE}}, causeInUse},
		{"its bind succeeded, watched", evidence{exit: failed, heard: true, inUse: "x", before: inUse, after: inUse, watched: &BindResult{}}, causeOwn},
		{"the same, and its state is locked", evidence{exit: failed, heard: true, inUse: "x", locks: "x", before: inUse, watched: &BindResult{}}, causeLock},
		{"its bind was not permitted, watched", evidence{exit: failed, watched: &BindResult{Err: syscall.EACCES}}, causeDenied},
		{"its bind failed otherwise, watched", evidence{exit: failed, inUse: "x", watched: &BindResult{Err: syscall.EMFILE}}, causeOwn},
		{"two refused binds, silent", evidence{exit: failed, heard: true, before: inUse, after: inUse}, causeInUse},
		{"two refused binds, other words", evidence{exit: failed, heard: true, spoke: true, before: inUse, after: inUse}, causeOwn},
		{"two refused binds, unheard", evidence{exit: failed, before: inUse, after: inUse}, causeInUse},
		{"refused before, unheard", evidence{exit: failed, before: inUse}, causeInUse},
		{"refused after, unheard", evidence{exit: failed, after: inUse}, causeInUse},
		{"refused before, heard", evidence{exit: failed, heard: true, before: inUse}, causeOwn},
		{"refused after, heard", evidence{exit: failed, heard: true, after: inUse}, causeOwn},
		{"status alone", evidence{exit: failed, heard: true}, causeOwn},
		{"status alone, unheard", evidence{exit: failed}, causeOwn},
		{"status 0 with words", evidence{heard: true, inUse: "x", before: inUse, after: inUse}, causeOwn},
		{"listened before", evidence{exit: failed, ready: true, heard: true, inUse: "x", before: inUse, after: inUse}, causeOwn},
		{"killed while refused", evidence{exit: killed, heard: true, before: inUse, after: inUse}, causeOwn},
		{"lock", evidence{exit: ExitStatus{Code: 78}, heard: true, locks: "x"}, causeLock},
		{"lock while refused", evidence{exit: ExitStatus{Code: 78}, heard: true, locks: "x", before: inUse, after: inUse}, causeLock},
		{"lock, then status 0", evidence{heard: true, locks: "x"}, causeOwn},
		{"denied and said", evidence{exit: failed, heard: true, denied: "x", before: denied, after: denied}, causeDenied},
		{"denied, unheard", evidence{exit: failed, before: denied, after: denied}, causeDenied},
		{"denied to us, other words", evidence{exit: failed, heard: true, before: denied, after: denied}, causeOwn},
		{"denied only in words", evidence{exit: failed, heard: true, denied: "x", before: none, after: none}, causeOwn},
		{"denied to us, in use to it", evidence{exit: failed, heard: true, inUse: "x", before: denied, after: denied}, causeInUse},
		{"no such address", evidence{exit: failed, heard: true, denied: "x", before: noAddress, after: noAddress}, causeDenied},
	} {
		if got := tt.evidence.cause(); got != tt.want {
			t.Errorf("%s: cause %d, want %d", tt.name, got, tt.want)
		}
	}
}

// Every combination of the evidence, held against what must be true of any
// judgement.
func TestCauseOfEveryCombination(t *testing.T) {
	bools := []bool{false, true}
	classes := []netstate.ErrClass{netstate.ClassNone, netstate.ClassInUse, netstate.ClassDenied, netstate.ClassNoAddress, netstate.ClassOther}
	exits := []ExitStatus{{}, {Code: 1}, {Code: 137, Signal: 9}}
	watches := []*BindResult{nil, {}, {Err: syscall.EADDRINUSE}, {Err: syscall.EACCES}, {Err: syscall.EMFILE}}
	word := map[bool]string{true: "x"}
	n := 0
	for bits := range 1 << 9 {
		bit := func(i int) bool { return bits>>i&1 == 1 }
		for _, exit := range exits {
			for _, watched := range watches {
				for _, before := range classes {
					for _, after := range classes {
						for _, later := range bools {
							e := evidence{
								exit: exit, watched: watched, before: before, after: after,
								ready: bit(0), heard: bit(1), spoke: bit(2), inUse: word[bit(3)], denied: word[bit(4)],
								locks: word[bit(5)], other: bit(6), foreign: bit(7), vague: bit(8),
							}
							if later {
								e.since = lastWords + 1
							}
							n++
							checkCause(t, e)
							if t.Failed() {
								return
							}
						}
					}
				}
			}
		}
	}
	t.Logf("%d combinations", n)
}

func checkCause(t *testing.T, e evidence) {
	t.Helper()
	const inUse = netstate.ClassInUse
	got := e.cause()
	must := func(held bool, what string) {
		if !held {
			t.Errorf("cause %d of %+v: %s", got, e, what)
		}
	}
	ownEnd := e.exit.Code == 0 || e.ready
	must(!ownEnd || got == causeOwn, "one that served or ended well was not refused")
	seen := e.watched != nil
	taken := seen && e.watched.Err == syscall.EADDRINUSE
	must(!taken || ownEnd || got == causeInUse, "its bind was seen to be refused")
	must(!seen || taken || got != causeInUse, "its bind was seen not to be refused for that")
	refused := e.before == inUse || e.after == inUse
	visible := refused || e.other || e.foreign || e.vague
	open := e.before != netstate.ClassNone || e.after != netstate.ClassNone
	must(got != causeInUse || taken || visible || open, "words or a status alone prove nothing")
	must(got != causeInUse || taken || e.inUse != "" || refused, "without words, a bind must have been refused")
	must(got != causeInUse || taken || refused || e.since <= lastWords, "it went on to speak of other things")
	must(got != causeInUse || taken || e.inUse != "" || e.exit.Signal == 0, "a signal is no refusal")
	must(got != causeInUse || taken || e.inUse != "" || !e.heard || !e.spoke, "it spoke of something else")
	must(e.locks == "" || taken || ownEnd || seen && got == causeDenied || got == causeLock, "its state is locked")
	must(got != causeLock || e.locks != "", "nothing says that its state is locked")
	must(got != causeDenied || seen && e.watched.Err == syscall.EACCES || e.before == e.after && e.before != inUse && open, "nothing refused it for good")
	if e.inUse != "" && refused && !ownEnd && !seen && e.locks == "" {
		must(got == causeInUse, "the kernel bears its words out")
	}
}

func TestLastWords(t *testing.T) {
	for _, tt := range []struct {
		name  string
		lines []string
		last  bool
	}{
		{"node", []string{"Error: listen EADDRINUSE: address already in use :::8080", "    at Server.setupListenHandle (node:net:1940:16)", "  code: 'EADDRINUSE',", "  port: 8080", "}", "", "Node.js v26.10.0"}, true},
		{"java", []string{`Exception in thread "main" java.net.BindException: Address already in use`, "\tat java.base/sun.nio.ch.Net.bind0(Native Method)", "\tat A.main(A.java:3)"}, true},
		{"haproxy", []string{"[ALERT] (1) : Starting frontend f: cannot bind socket (Address already in use) for [127.0.0.1:8080]", "[ALERT] (1) : [haproxy.main()] Some protocols failed to start their listeners! Exiting."}, true},
		{"said and got over it", []string{"upstream: address already in use", "retrying upstream", "connected", "serving", "a", "fatal: no such file"}, false},
		{"said again", []string{"address already in use", "a", "b", "c", "d", "address already in use"}, true},
	} {
		var e evidence
		for _, l := range tt.lines {
			e.hear(l)
		}
		if got := e.since <= lastWords; got != tt.last {
			t.Errorf("%s: last words %v, %d lines since", tt.name, got, e.since)
		}
	}
}

func TestSuspects(t *testing.T) {
	spec := netstate.NewBindSpec(netip.MustParseAddr("127.0.0.1"), 8080)
	show := func(specs []netstate.BindSpec) (s string) {
		for _, b := range specs {
			s += b.String()
			if b.V6Only {
				s += " v6only"
			}
			if !b.ReuseAddr {
				s += " plain"
			}
			s += ", "
		}
		return s
	}
	plain := spec
	plain.ReuseAddr = false
	for _, tt := range []struct {
		spec       netstate.BindSpec
		line, want string
	}{
		{spec, "", "127.0.0.1:8080, "},
		{spec, "in use: 127.0.0.1:8080", "127.0.0.1:8080, 127.0.0.1:8080 plain, "},
		{spec, "in use: :::8080", "127.0.0.1:8080, [::]:8080, 127.0.0.1:8080 plain, [::]:8080 plain, "},
		{spec, "in use: [::1]:9090", "127.0.0.1:8080, [::1]:9090 v6only, 127.0.0.1:8080 plain, [::1]:9090 v6only plain, "},
		{spec, "in use", "127.0.0.1:8080, 0.0.0.0:8080, [::]:8080, 127.0.0.1:8080 plain, 0.0.0.0:8080 plain, [::]:8080 plain, "},
		{plain, "in use: 0.0.0.0:8080", "127.0.0.1:8080 plain, 0.0.0.0:8080 plain, [::]:8080 plain, "},
	} {
		if got := show(suspects(tt.spec, tt.line)); got != tt.want {
			t.Errorf("suspects(%q) = %s\nwant %s", tt.line, got, tt.want)
		}
	}
}

func FuzzAddressesIn(f *testing.F) {
	f.Add("listen tcp [::1]:8080: bind: address already in use")
	f.Add("('::1', 8080, 0, 0) for \"127.0.0.1\" port 8080 [*:80] :::1 [] [:")
	f.Fuzz(func(t *testing.T, line string) {
		for _, ap := range addressesIn(line) {
			if !ap.IsValid() || ap.Port() == 0 {
				t.Errorf("%v is no address to bind, from %q", ap, line)
			}
		}
	})
}
