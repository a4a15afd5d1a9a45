package reclaim

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"berth/netstate"
)

// forest is a random process tree in which berth itself runs.
type forest struct {
	rng  *rand.Rand
	all  []netstate.Holder
	self Self
}

func newForest(rng *rand.Rand) *forest {
	f := &forest{rng: rng}
	names := []string{"node", "nginx", "sshd", "bash", "python3", "postgres", "systemd", ""}
	parents := map[int][]netstate.Parent{1: {{PID: 0}}}
	pids := []int{1}
	add := func(pid int, up []netstate.Parent) {
		h := netstate.Holder{
			ID: netstate.ProcessID{PID: pid, Start: rng.Uint64N(1000)}, Name: names[rng.IntN(len(names))],
			UID: []int{0, 33, 1000, -1}[rng.IntN(4)], FD: rng.IntN(5) - 1, Parents: up,
		}
		if rng.IntN(6) == 0 {
			h.Unit = "web.service"
		}
		if rng.IntN(6) == 0 { // it may stand in for others, or run under somebody
			h.Supervisor = &netstate.Supervisor{
				Kind: []netstate.SupervisorKind{netstate.SupervisorSystemdUser, netstate.SupervisorDocker, netstate.SupervisorPM2}[rng.IntN(3)],
				PID:  []int{0, 1, pid}[rng.IntN(3)], HoldsPort: rng.IntN(2) == 0, Restarts: netstate.TriOf(rng.IntN(2) == 0),
			}
		}
		f.all = append(f.all, h)
	}
	add(1, nil)
	for range 2 + rng.IntN(25) {
		pid := 2 + rng.IntN(400)
		if slices.Contains(pids, pid) {
			continue
		}
		from := pids[rng.IntN(len(pids))]
		up := append([]netstate.Parent{{PID: from}}, parents[from]...)
		parents[pid], pids = up, append(pids, pid)
		add(pid, up)
	}
	f.all = append(f.all, netstate.Holder{ID: netstate.ProcessID{PID: 0}})
	me := pids[rng.IntN(len(pids))]
	f.self = Self{PID: me, UID: []int{0, 1000}[rng.IntN(2)], Destroy: rng.IntN(2) == 0, Blunt: rng.IntN(8) == 0}
	for _, p := range parents[me] {
		if p.PID > 0 {
			f.self.Ancestors = append(f.self.Ancestors, p.PID)
		}
	}
	if rng.IntN(3) == 0 { // the leader of the terminal's session, any process
		f.self.Ancestors = append(f.self.Ancestors, pids[rng.IntN(len(pids))])
	}
	return f
}

// verdict is a refused bind with random blockers, held by random processes.
func (f *forest) verdict() netstate.Verdict {
	rng := f.rng
	states := []netstate.State{netstate.Listen, netstate.Listen, netstate.Listen, netstate.Bound, netstate.Established, netstate.CloseWait, netstate.TimeWait, netstate.FinWait2}
	port := []uint16{80, 18789, 40000}[rng.IntN(3)]
	v := netstate.Verdict{At: at, Spec: netstate.NewBindSpec(netip.MustParseAddr("127.0.0.1"), port), Reason: netstate.ReasonHeld, Errno: "EADDRINUSE", Counts: map[netstate.State]int{}}
	v.Spec.ReuseAddr = rng.IntN(4) > 0
	v.Caps = netstate.Caps{Source: "sock_diag", Inodes: true, AllHolders: rng.IntN(2) == 0, EphemeralFrom: 32768, EphemeralTo: 60999}
	for i := range 1 + rng.IntN(4) {
		s := netstate.Socket{State: states[rng.IntN(len(states))], Local: netip.AddrPortFrom(v.Spec.Addr, port), Cookie: uint64(i + 1), ReuseAddr: netstate.TriOf(rng.IntN(2) == 0)}
		b := netstate.Blocker{Certain: true, Outbound: netstate.No}
		if !s.Serving() {
			s.Remote = netip.AddrPortFrom(v.Spec.Addr, uint16(1+rng.IntN(60000)))
			b.Outbound = []netstate.Tri{netstate.Yes, netstate.No, netstate.Unknown}[rng.IntN(3)]
		}
		owned := s.State != netstate.TimeWait && rng.IntN(5) > 0
		if s.Serving() || owned {
			s.Inode = uint64(100 + i)
			for range rng.IntN(4) {
				if h := f.all[rng.IntN(len(f.all))]; !slices.ContainsFunc(b.Holders, func(o netstate.Holder) bool { return o.ID == h.ID }) {
					b.Holders = append(b.Holders, h)
				}
			}
		} else {
			b.Clears = netstate.Clears{From: at.Add(time.Duration(rng.IntN(60)) * time.Second)}
			b.Clears.Until = b.Clears.From.Add(2 * time.Second)
		}
		b.Socket = s
		v.Blockers = append(v.Blockers, b)
	}
	return v
}

// TestRandomPlans: whatever the processes and sockets are, a plan keeps to
// what it may touch.
func TestRandomPlans(t *testing.T) {
	const plans = 10000
	feasible, cuts, shut, pairs := 0, 0, 0, 0
	for i := range plans {
		rng := rand.New(rand.NewPCG(4, uint64(i)))
		f := newForest(rng)
		v := f.verdict()
		policy := DefaultPolicy()
		policy.Fast, policy.NoKill, policy.Destroy = rng.IntN(2) == 0, rng.IntN(3) == 0, rng.IntN(2) == 0
		policy.Watch, policy.Ends = time.Duration(rng.IntN(2))*time.Second, rng.IntN(4) == 0
		p := NewPlan(v, policy, f.self)
		bad := func(format string, args ...any) {
			t.Helper()
			t.Fatalf("plan %d: %s\nself %+v\nblockers %+v\nsteps %+v", i, fmt.Sprintf(format, args...), f.self, v.Blockers, p.Steps)
		}
		order := map[StepKind][]int{}
		for _, s := range p.Steps {
			pid := s.Holder.ID.PID
			switch s.Kind {
			case StepTerm, StepKill:
				order[s.Kind] = append(order[s.Kind], pid)
				switch {
				case pid <= 1:
					bad("pid %d is in it", pid)
				case pid == f.self.PID:
					bad("berth is in it")
				case slices.Contains(f.self.Ancestors, pid):
					bad("%d is an ancestor or leads the terminal", pid)
				case !blocks(&v, s.Holder):
					bad("%d holds no blocking socket but as a client", pid)
				case s.Kind == StepKill && policy.NoKill:
					bad("SIGKILL without leave")
				case s.Kind == StepTerm && f.self.Blunt:
					bad("a polite signal where there is none")
				case standsIn(s.Holder) != "":
					bad("%d holds the port for others", pid)
				}
			case StepCut:
				cuts++
				if pid <= 1 || pid == f.self.PID || slices.Contains(f.self.Ancestors, pid) || !policy.Destroy || v.Spec.Port != 40000 || len(s.Sockets) != 1 || s.Sockets[0].Serving() {
					bad("a connection of %d is destroyed", pid)
				}
			case StepDestroy:
				for _, s := range s.Sockets {
					if !s.Lingering() {
						bad("%s is destroyed", s.State)
					}
				}
			case StepShutdown:
				shut++
				for _, l := range s.Sockets {
					if policy.Ends || l.State != netstate.Listen || !v.Caps.AllHolders || !v.Spec.ReuseAddr {
						bad("%s is shut down", l.State)
					}
					if p.Feasible && !allKilled(&p, l) {
						bad("a sharer of %s lives on", l.Local)
					}
				}
			}
		}
		for _, pids := range order {
			for x, pid := range pids {
				if slices.Contains(pids[:x], pid) {
					bad("%d is signalled twice by one rung", pid)
				}
				for _, later := range pids[x+1:] {
					if h := holderOf(&p, pid); slices.ContainsFunc(h.Parents, func(up netstate.Parent) bool { return up.PID == later }) {
						bad("%d comes before its master %d", pid, later)
					}
					pairs++
				}
			}
		}
		if p.Feasible {
			feasible++
			continue
		}
		if err := Run(t.Context(), nobody{}, p, func(e Event) { bad("event %s", e.Kind) }); err == nil {
			bad("an infeasible plan was run")
		}
	}
	// The scenes must be such that something can go wrong.
	if feasible < 500 || cuts < 100 || shut < 100 || pairs < 1000 {
		t.Errorf("%d feasible plans, %d cuts, %d shutdowns, %d pairs: too few to tell", feasible, cuts, shut, pairs)
	}
}

// nobody is a kernel that must not be asked for anything: each call panics.
type nobody struct{ Kernel }

// blocks reports whether h holds a blocker other than as a client.
func blocks(v *netstate.Verdict, h netstate.Holder) bool {
	return slices.ContainsFunc(v.Blockers, func(b netstate.Blocker) bool {
		return b.Outbound != netstate.Yes && slices.ContainsFunc(b.Holders, func(o netstate.Holder) bool { return o.ID == h.ID })
	})
}

func allKilled(p *Plan, l netstate.Socket) bool {
	for _, b := range p.Verdict.Blockers {
		if b.Socket != l {
			continue
		}
		for _, h := range b.Holders {
			if !slices.ContainsFunc(p.Steps, func(s Step) bool { return s.Kind == StepKill && s.Holder.ID == h.ID }) {
				return false
			}
		}
	}
	return true
}

func holderOf(p *Plan, pid int) netstate.Holder {
	for _, s := range p.Steps {
		if s.Holder.ID.PID == pid {
			return s.Holder
		}
	}
	return netstate.Holder{}
}
