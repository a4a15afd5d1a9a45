//go:build unix

package netstate

import (
	"maps"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"berth/netstate/netns"
)

// scene is one table, one bind and the sentence that a person should read.
type scene struct {
	name    string
	plain   bool  // bind without SO_REUSEADDR
	err     error // of the probe
	rules   bool  // no probe was made
	sockets []Socket
	holders map[uint64][]Holder

	reason   Reason
	bindable bool
	unsure   bool
	blockers int
	summary  string
	clears   time.Duration // 0 is unknown
	cures    []CureAction
	note     string
}

var node = Holder{ID: ProcessID{PID: 4211, Start: 1}, Name: "node", User: "alice", UID: 1000, FD: 19}

func tcp(state State, local, remote string, edit ...func(*Socket)) Socket {
	s := Socket{State: state, Local: netip.MustParseAddrPort(local), Family: INET, Inode: 7, UID: 1000, UIDKnown: true, ReuseAddr: Yes, ReusePort: No}
	if s.Local.Addr().Is6() {
		s.Family = INET6
		s.V6Only = No
	}
	if remote != "" {
		s.Remote = netip.MustParseAddrPort(remote)
	}
	for _, f := range edit {
		f(&s)
	}
	return s
}

// ownerless makes a socket one that no process owns, with options nobody told.
func ownerless(s *Socket) {
	s.Inode, s.UID, s.UIDKnown, s.ReuseAddr, s.ReusePort, s.V6Only = 0, 0, false, Unknown, Unknown, Unknown
}

func left(d time.Duration) func(*Socket) {
	return func(s *Socket) { s.Timer, s.Expires = TimerTimeWait, d }
}

func plainSocket(s *Socket) { s.ReuseAddr = No }

var scenes = []scene{
	{
		name: "nothing there", reason: ReasonFree, bindable: true,
		summary: "127.0.0.1:18789 can be bound now.",
	},
	{
		name: "a listener", err: syscall.EADDRINUSE,
		sockets: []Socket{tcp(Listen, "127.0.0.1:18789", "")},
		holders: map[uint64][]Holder{7: {node}},
		reason:  ReasonHeld, blockers: 1,
		summary: "127.0.0.1:18789 cannot be bound: node (pid 4211, alice) listens on 127.0.0.1:18789.",
		cures:   []CureAction{CureStop, CureHost},
	},
	{
		name: "a dual-stack listener, shared by three", err: syscall.EADDRINUSE,
		sockets: []Socket{tcp(Listen, "[::]:18789", "")},
		holders: map[uint64][]Holder{7: {node, {ID: ProcessID{PID: 4212}}, {ID: ProcessID{PID: 4213}}}},
		reason:  ReasonHeld, blockers: 1,
		summary: "127.0.0.1:18789 cannot be bound: node (pid 4211, alice; 2 more processes share its socket) listens on [::]:18789, which is dual-stack and takes IPv4 too.",
		cures:   []CureAction{CureStop},
	},
	{
		name: "a listener of somebody hidden", err: syscall.EADDRINUSE,
		sockets: []Socket{tcp(Listen, "0.0.0.0:18789", "")},
		reason:  ReasonHeld, blockers: 1,
		summary: "127.0.0.1:18789 cannot be bound: a process that this user may not see listens on 0.0.0.0:18789, which means every address.",
		cures:   []CureAction{CurePrivilege, CureHost},
	},
	{
		name: "bound, never listened", err: syscall.EADDRINUSE,
		sockets: []Socket{tcp(Bound, "127.0.0.1:18789", "", plainSocket)},
		holders: map[uint64][]Holder{7: {node}},
		reason:  ReasonBound, blockers: 1,
		summary: "127.0.0.1:18789 cannot be bound: node (pid 4211, alice) has bound 127.0.0.1:18789 without listening, which lsof and ss do not show.",
		cures:   []CureAction{CureStop, CureHost},
	},
	{
		name: "an outgoing connection sits on the port", err: syscall.EADDRINUSE,
		sockets: []Socket{
			tcp(Established, "127.0.0.1:18789", "127.0.0.1:443", plainSocket),
			tcp(Listen, "127.0.0.1:443", "", func(s *Socket) { s.Inode = 8 }),
		},
		holders: map[uint64][]Holder{7: {node}},
		reason:  ReasonInUse, blockers: 1,
		summary: "127.0.0.1:18789 cannot be bound: node (pid 4211, alice) uses the port as its own end of an outgoing connection to 127.0.0.1:443 (ESTAB).",
		cures:   []CureAction{CureReserve, CureHost},
	},
	{
		name: "TIME-WAIT of a server without the flag", err: syscall.EADDRINUSE,
		sockets: []Socket{tcp(TimeWait, "127.0.0.1:18789", "127.0.0.1:50000", ownerless, left(57210*time.Millisecond))},
		reason:  ReasonLingering, blockers: 1, clears: 57210 * time.Millisecond,
		summary: "127.0.0.1:18789 cannot be bound: a TIME-WAIT socket, left by a server or client without SO_REUSEADDR, blocks it for 57.2 s more.",
		cures:   []CureAction{CureWait, CureDestroy, CureHost},
	},
	{
		name: "one of two TIME-WAIT sockets", err: syscall.EADDRINUSE,
		sockets: []Socket{
			tcp(TimeWait, "127.0.0.1:18789", "127.0.0.1:50000", ownerless, left(5*time.Second)),
			tcp(TimeWait, "127.0.0.1:18789", "127.0.0.1:50001", ownerless, left(9*time.Second)),
		},
		reason: ReasonLingering, blockers: 2, clears: 9 * time.Second,
		summary: "127.0.0.1:18789 cannot be bound: one of 2 TIME-WAIT or closing sockets, left by a server or client without SO_REUSEADDR, blocks it for 9.0 s more.",
		cures:   []CureAction{CureWait, CureDestroy, CureHost},
	},
	{
		name: "a plain bind over TIME-WAIT", plain: true, err: syscall.EADDRINUSE,
		sockets: []Socket{
			tcp(TimeWait, "127.0.0.1:18789", "127.0.0.1:50000", ownerless, left(5*time.Second)),
			tcp(TimeWait, "127.0.0.1:18789", "127.0.0.1:50001", ownerless, left(9*time.Second)),
		},
		reason: ReasonLingering, blockers: 2, clears: 9 * time.Second,
		summary: "127.0.0.1:18789 cannot be bound: 2 TIME-WAIT or closing sockets block a bind without SO_REUSEADDR for 9.0 s more.",
		cures:   []CureAction{CureReuseAddr, CureWait, CureDestroy, CureHost},
	},
	{
		name: "a listener over a TIME-WAIT that outlasts it", err: syscall.EADDRINUSE,
		sockets: []Socket{
			tcp(Listen, "127.0.0.1:18789", "", plainSocket),
			tcp(TimeWait, "127.0.0.1:18789", "127.0.0.1:50000", ownerless, plainSocket, left(57*time.Second)),
		},
		holders: map[uint64][]Holder{7: {node}},
		reason:  ReasonHeld, blockers: 2,
		summary: "127.0.0.1:18789 cannot be bound: node (pid 4211, alice) listens on 127.0.0.1:18789.",
		cures:   []CureAction{CureDestroy, CureHost},
	},
	{
		name: "a listener over a TIME-WAIT that is nearly over", err: syscall.EADDRINUSE,
		sockets: []Socket{
			tcp(Listen, "127.0.0.1:18789", "", plainSocket),
			tcp(TimeWait, "127.0.0.1:18789", "127.0.0.1:50000", ownerless, plainSocket, left(time.Second)),
		},
		holders: map[uint64][]Holder{7: {node}},
		reason:  ReasonHeld, blockers: 2,
		summary: "127.0.0.1:18789 cannot be bound: node (pid 4211, alice) listens on 127.0.0.1:18789.",
		cures:   []CureAction{CureStop, CureDestroy, CureHost},
	},
	{
		name:     "TIME-WAIT that does not matter",
		sockets:  []Socket{tcp(TimeWait, "127.0.0.1:18789", "127.0.0.1:50000", ownerless, left(time.Minute))},
		reason:   ReasonFree,
		bindable: true,
		summary:  "127.0.0.1:18789 can be bound now: SO_REUSEADDR ignores the TIME-WAIT socket there.",
	},
	{
		name: "the rules cannot tell", rules: true,
		sockets: []Socket{tcp(TimeWait, "127.0.0.1:18789", "127.0.0.1:50000", ownerless, left(time.Minute))},
		reason:  ReasonFree, bindable: true, unsure: true, blockers: 1, clears: time.Minute,
		summary: "127.0.0.1:18789 can be bound with SO_REUSEADDR unless the server of the one socket left set no SO_REUSEADDR; only a real bind tells.",
	},
	{
		name: "the rules know a listener", rules: true,
		sockets: []Socket{tcp(Listen, "127.0.0.1:18789", "")},
		holders: map[uint64][]Holder{7: {node}},
		reason:  ReasonHeld, blockers: 1,
		summary: "127.0.0.1:18789 cannot be bound: node (pid 4211, alice) listens on 127.0.0.1:18789.",
		cures:   []CureAction{CureStop, CureHost},
	},
	{
		name: "refused for no visible reason", err: syscall.EADDRINUSE,
		reason:  ReasonUnknown,
		summary: "127.0.0.1:18789 cannot be bound, and no visible socket explains it: another user's or another namespace's may.",
		cures:   []CureAction{CurePrivilege},
	},
	{
		name:    "the kernel disagrees with the rules",
		sockets: []Socket{tcp(Listen, "127.0.0.1:18789", "")},
		holders: map[uint64][]Holder{7: {node}},
		reason:  ReasonFree, bindable: true,
		summary: "127.0.0.1:18789 can be bound now.",
		note:    "by the rules the LISTEN socket 127.0.0.1:18789 should refuse this bind, yet the kernel allowed it; its answer counts",
	},
	{
		name: "no permission", err: syscall.EACCES, reason: ReasonDenied,
		summary: "127.0.0.1:18789 cannot be bound: the system does not permit it to this user.",
	},
	{
		name: "not our address", err: syscall.EADDRNOTAVAIL, reason: ReasonNoAddress,
		summary: "127.0.0.1:18789 cannot be bound: 127.0.0.1 is not an address of this machine.",
		cures:   []CureAction{CureHost},
	},
}

func TestExplainScenes(t *testing.T) {
	at := time.Date(2026, 11, 23, 14, 2, 13, 0, time.UTC)
	for _, sc := range scenes {
		t.Run(sc.name, func(t *testing.T) {
			spec := NewBindSpec(netip.MustParseAddr("127.0.0.1"), 18789)
			spec.ReuseAddr = !sc.plain
			owners := NewOwners()
			for ino, hs := range sc.holders {
				for _, h := range hs {
					owners.Add(ino, h)
				}
			}
			probe := &Probe{Spec: spec, At: at, Err: sc.err}
			if sc.rules {
				probe = nil
			}
			v := Explain(spec, probe, NewSnapshot(at, append([]Socket(nil), sc.sockets...), Caps{Source: "sock_diag"}), owners)
			if v.Reason != sc.reason || v.Bindable != sc.bindable || v.Unsure != sc.unsure || len(v.Blockers) != sc.blockers {
				t.Errorf("got reason %s, bindable %v, unsure %v, %d blockers", v.Reason, v.Bindable, v.Unsure, len(v.Blockers))
			}
			if v.Summary != sc.summary {
				t.Errorf("summary\n got %s\nwant %s", v.Summary, sc.summary)
			}
			if v.Note != sc.note {
				t.Errorf("note\n got %s\nwant %s", v.Note, sc.note)
			}
			if sc.clears == 0 && v.Clears.Known() || sc.clears > 0 && !v.Clears.From.Equal(at.Add(sc.clears)) {
				t.Errorf("clears from %v until %v, want %v after %v", v.Clears.From, v.Clears.Until, sc.clears, at)
			}
			var got []CureAction
			for _, c := range v.Cures {
				got = append(got, c.Action)
			}
			if len(got) != len(sc.cures) {
				t.Fatalf("cures %v, want %v", got, sc.cures)
			}
			for i := range got {
				if got[i] != sc.cures[i] {
					t.Errorf("cures %v, want %v", got, sc.cures)
				}
			}
		})
	}
}

// TestSummaryIsPlain: a process may call itself anything, and its name stands
// in sentences that reach terminals.
// A container is named wherever its process is, but not twice.
func TestContainerIsNamed(t *testing.T) {
	nginx := Holder{ID: ProcessID{PID: 4211, Start: 1}, Name: "nginx", User: "root", Container: "docker 3f2a61c09b1e"}
	for _, c := range []struct {
		ns                  netns.Namespace
		summary, cure, held string
	}{
		{
			netns.Namespace{},
			"127.0.0.1:18789 cannot be bound: nginx (pid 4211, root, docker 3f2a61c09b1e) listens on 127.0.0.1:18789.",
			"stop nginx (pid 4211, root, docker 3f2a61c09b1e)", nginx.Container,
		},
		{
			netns.Namespace{ID: 7, Name: nginx.Container},
			"127.0.0.1:18789 in netns docker 3f2a61c09b1e cannot be bound: nginx (pid 4211, root) listens on 127.0.0.1:18789.",
			"stop nginx (pid 4211, root)", nginx.Container,
		},
	} {
		snap := NewSnapshot(time.Now(), []Socket{tcp(Listen, "127.0.0.1:18789", "")}, Caps{})
		snap.NetNS = c.ns
		owners := NewOwners()
		owners.Add(7, nginx)
		v := Explain(NewBindSpec(netip.MustParseAddr("127.0.0.1"), 18789).In(snap.Scope), nil, snap, owners)
		if v.Summary != c.summary {
			t.Errorf("%q, want %q", v.Summary, c.summary)
		}
		if len(v.Cures) == 0 || v.Cures[0].Text != c.cure {
			t.Errorf("the cures are %+v, want %q first", v.Cures, c.cure)
		}
		if hs := v.Holders(); len(hs) != 1 || hs[0].Container != c.held {
			t.Errorf("the holders are %+v", hs)
		}
	}
}

func TestSummaryIsPlain(t *testing.T) {
	spec := NewBindSpec(netip.MustParseAddr("127.0.0.1"), 80)
	owners := NewOwners()
	owners.Add(7, Holder{ID: ProcessID{PID: 5}, Name: "\x1b[2Jevil\n\u202e", User: "\x9b31mroot\xff"})
	v := Explain(spec, &Probe{Spec: spec, Err: syscall.EADDRINUSE}, NewSnapshot(time.Now(), []Socket{tcp(Listen, "127.0.0.1:80", "")}, Caps{}), owners)
	for _, text := range []string{v.Summary, v.Cures[0].Text} {
		for _, bad := range []string{"\x1b", "\n", "\u202e", "\x9b", "\xff"} {
			if strings.Contains(text, bad) {
				t.Errorf("%q contains %q", text, bad)
			}
		}
		if !strings.Contains(text, "evil") {
			t.Errorf("%q lost the name", text)
		}
	}
}

// Nobody is said to be hidden from one who sees everybody.
func TestHolderThatIsNoProcess(t *testing.T) {
	spec := NewBindSpec(netip.MustParseAddr("127.0.0.1"), 4789).In(Scope{Protocol: UDP})
	refused := Probe{Spec: spec, Err: syscall.EADDRINUSE}
	socket := Socket{State: Unconn, Local: netip.MustParseAddrPort("0.0.0.0:4789"), Family: INET, Inode: 9}
	for all, want := range map[bool]string{
		true:  "the kernel itself (as for VXLAN, WireGuard or NFS) or a process outside this container has the UDP port 0.0.0.0:4789",
		false: "a process that this user may not see has the UDP port 0.0.0.0:4789",
	} {
		snap := NewSnapshot(time.Time{}, []Socket{socket}, Caps{Source: "sock_diag", Inodes: true, AllHolders: all})
		if v := Explain(spec, &refused, snap, NewOwners()); !strings.Contains(v.Summary, want) {
			t.Errorf("all holders visible %v: %s", all, v.Summary)
		}
	}
}

// A v4-mapped bind is not the same as a plain IPv4 one, so both have their row.
func TestMatrixOfMappedHost(t *testing.T) {
	v := Explain(NewBindSpec(netip.MustParseAddr("::ffff:127.0.0.1"), 8080), nil, NewSnapshot(time.Time{}, nil, Caps{}), nil)
	hosts := map[string]int{}
	for _, c := range v.Matrix {
		hosts[c.Spec.Host()]++
	}
	want := map[string]int{"::ffff:127.0.0.1": 3, "127.0.0.1": 3, "0.0.0.0": 3, "::1": 3, "::": 6}
	if !maps.Equal(hosts, want) {
		t.Errorf("the matrix has %v, want %v", hosts, want)
	}
}
