//go:build unix

package netstate

import (
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestPresumedBlockers: what a connection's relatives suggest sorts it, and
// never makes it certain.
func TestPresumedBlockers(t *testing.T) {
	server := func(local string, inode uint64, reuseAddr, reusePort Tri) Socket {
		s := Socket{Local: netip.MustParseAddrPort(local), Family: INET, State: Listen, Cookie: inode, Inode: inode,
			ReuseAddr: reuseAddr, ReusePort: reusePort, UIDKnown: true, FlagsFrom: FlagsGetsockopt}
		if s.Local.Addr().Is6() {
			s.Family, s.V6Only = INET6, No
		}
		return s
	}
	with := func(s Socket, change func(*Socket)) Socket {
		change(&s)
		return s
	}
	left := lingeringAt("127.0.0.1:80", 1)
	for _, c := range []struct {
		name            string
		sockets         []Socket
		oneOf           [][]int
		holders         map[uint64][]Holder
		port            bool // bind with SO_REUSEPORT and without SO_REUSEADDR
		likely, not     int
		certain         int
		sentence, lacks string
	}{
		{name: "the listener has no flag", sockets: []Socket{server("127.0.0.1:80", 9, No, No), left}, certain: 1, likely: 1},
		{name: "the listener has the flag", sockets: []Socket{server("127.0.0.1:80", 9, Yes, No), left}, certain: 1, not: 1},
		{name: "the listener at the address counts", sockets: []Socket{server("0.0.0.0:80", 8, No, No), server("127.0.0.1:80", 9, Yes, No), left}, certain: 2, not: 1},
		{name: "the listener of another family does not", sockets: []Socket{server("[::]:80", 8, No, No), left}, certain: 1, not: 1},
		{name: "a listener that was shut down", sockets: []Socket{with(server("0.0.0.0:80", 9, No, No), func(s *Socket) { s.State = Bound }), left}, certain: 1, likely: 1},
		{
			name: "a connection to the same address",
			sockets: []Socket{server("127.0.0.1:80", 9, Yes, No), left,
				with(left, func(s *Socket) {
					s.State, s.Timer, s.Inode, s.Cookie, s.ReuseAddr, s.ReusePort = Established, 0, 7, 7, No, No
				})},
			certain: 2, likely: 1,
		},
		{
			name: "the queue tells who is waited for",
			sockets: []Socket{server("127.0.0.1:80", 9, Yes, No), with(server("0.0.0.0:80", 8, No, No), func(s *Socket) { s.RecvQ = 1 }),
				with(left, func(s *Socket) { s.State, s.Timer = Established, 0 })},
			certain: 2, likely: 1,
		},
		{
			name: "a client's end is nobody's child",
			sockets: []Socket{server("127.0.0.1:80", 9, No, No), with(left, func(s *Socket) {
				s.State, s.Timer = SynSent, 0
			})},
			certain: 1, not: 1,
		},
		{
			name: "a process that can be seen is not suspected",
			sockets: []Socket{server("127.0.0.1:80", 9, No, No), with(left, func(s *Socket) {
				s.State, s.Timer, s.Inode = Established, 0, 7
			})},
			holders: map[uint64][]Holder{7: {{ID: ProcessID{PID: 7}, Name: "client"}}},
			certain: 1, not: 1,
		},
		{
			name:    "one of two, behind a listener elsewhere",
			sockets: []Socket{server("[::]:80", 9, Yes, No), left, lingeringAt("127.0.0.1:80", 2)},
			oneOf:   [][]int{{1, 2}}, certain: 1, likely: 2,
		},
		{
			name: "one of two, of which one has a listener with the flag",
			sockets: []Socket{server("[::]:80", 9, Yes, No), left,
				with(lingeringAt("127.0.0.1:80", 2), func(s *Socket) { s.Family = INET6 })},
			oneOf: [][]int{{1, 2}}, certain: 1, likely: 1, not: 1,
		},
		{name: "nothing suggests anything", sockets: []Socket{server("[::]:80", 9, Yes, No), left}, certain: 1, not: 1},
		{name: "few set SO_REUSEPORT", sockets: []Socket{left, lingeringAt("127.0.0.1:80", 2)}, port: true, likely: 2, sentence: "2 TIME-WAIT or closing sockets block", lacks: "probably"},
		{
			name: "one is likely and another is not excluded",
			sockets: []Socket{left, with(lingeringAt("127.0.0.1:80", 2), func(s *Socket) { s.Family = INET6 }),
				with(lingeringAt("127.0.0.1:80", 3), func(s *Socket) {
					s.Family, s.State, s.Timer, s.Inode, s.UIDKnown, s.ReuseAddr, s.ReusePort = INET6, Established, 0, 7, true, No, Yes
				})},
			port: true, likely: 1, not: 1, sentence: "probably because a TIME-WAIT socket blocks",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			spec := NewBindSpec(netip.MustParseAddr("127.0.0.1"), 80)
			spec.UID = 0
			if c.port {
				spec.ReuseAddr, spec.ReusePort = false, true
			}
			owners := NewOwners()
			for inode, hs := range c.holders {
				for _, h := range hs {
					owners.Add(inode, h)
				}
			}
			at := time.Unix(1_700_000_000, 0)
			snap := &Snapshot{At: at, Sockets: c.sockets}
			probe := &Probe{Spec: spec, At: at, Err: syscall.EADDRINUSE}
			v := explain(spec, probe, snap, c.sockets, owners, c.oneOf)
			certain := 0
			for i, b := range v.Blockers {
				if b.Certain {
					certain++
				}
				if b.Certain && i > 0 && !v.Blockers[i-1].Certain {
					t.Error("a certain blocker comes after one that is not")
				}
			}
			if certain != c.certain || len(v.Blockers)-certain != c.likely || len(v.Possible) != c.not {
				t.Errorf("%d certain, %d likely, %d possible blockers; want %d, %d, %d", certain, len(v.Blockers)-certain, len(v.Possible), c.certain, c.likely, c.not)
			}
			if !strings.Contains(v.Summary, c.sentence) || c.lacks != "" && strings.Contains(v.Summary, c.lacks) {
				t.Error(v.Summary)
			}
		})
	}
}
