package cli

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"berth/gatewaylaunch/bindnotify"
	"berth/netstate"
	"berth/netstate/netns"
	"berth/reclaim"
	"berth/ui"
)

// observeEvery is how often the machine is read when nothing happens.
const observeEvery = time.Second

// ownersFor is how long the holders of sockets that were seen before are
// believed. A socket that is new is looked up at once; only a process that
// comes to share an old one, or leaves it to another, is seen this late. What
// is signalled never rests on this: a plan asks anew.
const ownersFor = 10 * time.Second

// engine is the machine behind the screen: the real ui.Engine.
type engine struct {
	sys     *netstate.System
	kernel  *reclaim.System
	gateway gateway
	launch  launch
	demo    bool
	log     string
	state   string // where the record of a running gateway is
	// watchBind lets the binds of the gateway be told. note says why that does
	// not work, or what it costs.
	watchBind bool
	note      string
	// assume is the bind of a server on another port than the gateway's, and
	// assumeIn gives that in another network namespace, where a host can be
	// another address; nil if it is the same everywhere.
	assume   netstate.BindSpec
	assumeIn func(context.Context, netns.Namespace) (netstate.BindSpec, error)

	observations chan ui.Observation
	wake         chan struct{}
	cancel       context.CancelFunc
	done         chan struct{} // closed when observing has ended

	mu      sync.Mutex
	reach   ui.Reach
	asked   bool // Refresh was called since the last reading
	assumed map[uint64]netstate.BindSpec
	focus   *netstate.BindSpec
	newest  *watched // launch; nil if there was none
}

// startEngine begins to observe; close ends it.
func startEngine(ctx context.Context, e *engine) *engine {
	ctx, e.cancel = context.WithCancel(ctx)
	e.kernel = reclaim.NewSystem(e.sys)
	e.observations = make(chan ui.Observation, 1)
	e.wake = make(chan struct{}, 1)
	e.done = make(chan struct{})
	go func() {
		defer close(e.done)
		e.observe(ctx)
	}()
	return e
}

// close ends observing and waits for it.
func (e *engine) close() {
	e.cancel()
	<-e.done
}

func (e *engine) Observations() <-chan ui.Observation { return e.observations }

func (e *engine) Focus(spec *netstate.BindSpec) {
	e.mu.Lock()
	e.focus = spec
	e.mu.Unlock()
	e.Refresh()
}

func (e *engine) Look(reach ui.Reach) {
	e.mu.Lock()
	e.reach = reach
	e.mu.Unlock()
	e.Refresh()
}

func (e *engine) Refresh() {
	e.mu.Lock()
	e.asked = true
	e.mu.Unlock()
	select {
	case e.wake <- struct{}{}:
	default: // A reading is due already.
	}
}

func (e *engine) Spec(ns netns.Namespace, port uint16) netstate.BindSpec {
	if ns.Own() && port == e.gateway.spec.Port {
		return e.gateway.spec
	}
	e.mu.Lock()
	spec, ok := e.assumed[ns.ID]
	e.mu.Unlock()
	if !ok {
		spec = e.assume
	}
	spec.NetNS, spec.Port = ns, port
	return spec
}

// resolve finds the bind that is assumed in each of the namespaces, once. If a
// host means nothing there, a bind to berth's own address is assumed, which
// then says that it is none there.
func (e *engine) resolve(ctx context.Context, spaces []netns.Namespace) {
	if e.assumeIn == nil {
		return
	}
	assumed := make(map[uint64]netstate.BindSpec, len(spaces))
	for _, ns := range spaces {
		spec, ok := e.assumed[ns.ID]
		if !ok {
			var err error
			if spec, err = e.assumeIn(ctx, ns); err != nil {
				spec = e.assume
			}
		}
		assumed[ns.ID] = spec
	}
	e.mu.Lock()
	e.assumed = assumed // which only this goroutine changes
	e.mu.Unlock()
}

// observe publishes an observation for each reading until ctx ends.
func (e *engine) observe(ctx context.Context) {
	defer close(e.observations)
	var (
		owners ownerCache
		last   ui.Observation
		others = neighbours{sys: e.sys}
	)
	for u := range netstate.Watch(ctx, e.sys, observeEvery, e.wake) {
		obs := ui.Observation{At: u.At, Err: u.Err}
		if u.Err == nil {
			obs.Table = ui.Table{Snapshot: u.Snapshot, Verdicts: map[uint16]netstate.Verdict{}}
			e.mu.Lock()
			reach, asked := e.reach, e.asked
			e.asked = false
			e.mu.Unlock()
			if others.find(ctx, reach, asked, u.At) {
				e.resolve(ctx, others.open)
			}
			obs.Others = others.read(ctx)
			obs.Note = others.note
			obs.Err = e.explain(ctx, &obs, &owners)
		}
		if ctx.Err() != nil {
			return
		}
		if obs.Err != nil {
			// The old data stays, and its own time tells its age.
			obs.Table, obs.Others, obs.Note, obs.Owners = last.Table, last.Others, last.Note, last.Owners
		}
		last = obs
		select {
		case <-e.observations: // nobody took the last one
		default:
		}
		e.observations <- obs // never blocks: this goroutine is the only sender
	}
}

// explain adds the holders and the verdicts to the tables.
func (e *engine) explain(ctx context.Context, obs *ui.Observation, cache *ownerCache) error {
	e.mu.Lock()
	focus, launching := e.focus, e.newest != nil && e.newest.launching
	e.mu.Unlock()

	tables := append([]ui.Table{obs.Table}, obs.Others...) // which share their maps with these
	focused := func(t *ui.Table, port uint16) bool {
		return focus != nil && focus.NetNS.ID == t.Snapshot.NetNS.ID && focus.Port == port
	}
	var wanted []netstate.Socket
	for i := range tables {
		t := &tables[i]
		for port, sockets := range t.Snapshot.Ports() {
			if f := focused(t, port); f || netstate.Serves(sockets) {
				wanted = append(wanted, telling(sockets, f)...)
			}
		}
	}
	var err error
	if obs.Owners, err = cache.of(ctx, e.sys, wanted, obs.At); err != nil {
		return err
	}
	for i := range tables {
		t := &tables[i]
		for port, sockets := range t.Snapshot.Ports() {
			if netstate.Serves(sockets) {
				t.Verdicts[port] = netstate.Explain(e.Spec(t.Snapshot.NetNS, port), nil, t.Snapshot, obs.Owners)
			}
		}
	}
	// The gateway's port and the focused one are worth a look at the hidden
	// options of their sockets.
	gateway := e.gateway.spec
	if focus == nil || *focus != gateway {
		if obs.Verdicts[gateway.Port], err = e.sys.Explain(ctx, gateway, nil, obs.Snapshot, obs.Owners); err != nil {
			return err
		}
	}
	for i := range tables {
		if t := &tables[i]; focus != nil && focused(t, focus.Port) {
			spec := *focus
			spec.NetNS = t.Snapshot.NetNS // its name and its way in may have changed
			if t.Verdicts[spec.Port], err = e.probe(ctx, spec, launching && spec.NetNS.Own(), t.Snapshot, obs.Owners); err != nil {
				return err
			}
		}
	}
	return nil
}

// probe gives the verdict on the focused spec by a real bind. While a gateway
// starts there is none: it could take the address for the microseconds in
// which the gateway binds it, so the rules must do.
func (e *engine) probe(ctx context.Context, spec netstate.BindSpec, launching bool, snap *netstate.Snapshot, owners *netstate.Owners) (netstate.Verdict, error) {
	if launching {
		return e.sys.Explain(ctx, spec, nil, snap, owners)
	}
	probe := netstate.TryBind(spec)
	v, err := e.sys.Explain(ctx, spec, &probe, snap, owners)
	if err == nil && (v.Reason == netstate.ReasonUnknown || v.Note != "") {
		// The bind and the snapshot before it do not fit: the port may have
		// changed in between.
		return e.sys.Why(ctx, spec)
	}
	return v, err
}

// telling returns the sockets of a port whose holders are worth a walk over
// all processes. Where something listens, its holders say it all, and its
// connections, which come and go by the second, are left out; on the page of
// the port nothing is.
func telling(sockets []netstate.Socket, all bool) []netstate.Socket {
	var owned, servers []netstate.Socket
	for i := range sockets {
		if s := &sockets[i]; s.Owned() {
			owned = append(owned, *s)
			if s.State == netstate.Listen || s.State == netstate.Bound {
				servers = append(servers, *s)
			}
		}
	}
	if all || len(servers) == 0 {
		return owned
	}
	return servers
}

// ownerCache remembers holders, so that processes are walked only when a
// socket appears that was not seen before.
type ownerCache struct {
	owners *netstate.Owners
	seen   map[socketID]bool
	at     time.Time
}

// socketID is what the holders of a socket are found by.
type socketID struct {
	inode uint64
	pid   int
}

func (c *ownerCache) of(ctx context.Context, sys *netstate.System, sockets []netstate.Socket, now time.Time) (*netstate.Owners, error) {
	ids := make(map[socketID]bool, len(sockets))
	known := c.owners != nil && now.Sub(c.at) < ownersFor
	for i := range sockets {
		id := socketID{sockets[i].Inode, sockets[i].PID}
		ids[id] = true
		known = known && c.seen[id]
	}
	if known {
		return c.owners, nil
	}
	owners, err := sys.Owners(ctx, sockets)
	if err != nil {
		return nil, err
	}
	*c = ownerCache{owners: owners, seen: ids, at: now}
	return owners, nil
}

// Plan makes a plan and holds its targets.
func (e *engine) Plan(ctx context.Context, req ui.PlanRequest) (ui.Held, error) {
	plan, err := e.plan(ctx, req)
	if err != nil {
		return nil, err
	}
	// The last process of a container takes its network namespace with it, and
	// then there would be nowhere to make the bind that proves the result.
	kept, err := plan.Spec.NetNS.Keep()
	if err != nil {
		return nil, err
	}
	plan.Spec.NetNS = kept
	h := &heldPlan{e: e, plan: plan, held: reclaim.Hold(e.kernel, plan)}
	if req.HandOver {
		h.support = bindnotify.Supported(ctx)
	}
	return h, nil
}

// heldPlan is a plan of the engine's whose targets and namespace are held.
type heldPlan struct {
	e    *engine
	plan reclaim.Plan
	held *reclaim.Held
	// support is what can be done with the binds of the next server, if the
	// plan is that of a hand-over.
	support bindnotify.Support
}

func (h *heldPlan) Plan() reclaim.Plan          { return h.plan }
func (h *heldPlan) Support() bindnotify.Support { return h.support }

func (h *heldPlan) Run(ctx context.Context, on func(reclaim.Event)) error {
	return h.held.Run(ctx, func(ev reclaim.Event) {
		on(ev)
		if ev.Kind != reclaim.EventProbe {
			h.e.Refresh()
		}
	})
}

func (h *heldPlan) Close() {
	h.held.Close()
	h.plan.Spec.NetNS.Release()
}

func (e *engine) plan(ctx context.Context, req ui.PlanRequest) (reclaim.Plan, error) {
	policy := restartPolicy(e.launch.ladder)
	policy.Destroy = req.Destroy
	if req.Restart || req.HandOver {
		policy.Own = e.gateway.command.Argv
	}
	if req.HandOver {
		return restartPlan(ctx, e.sys, e.gateway, policy)
	}
	v, err := e.kernel.Why(ctx, req.Spec)
	if err != nil {
		return reclaim.Plan{}, err
	}
	self := reclaim.CurrentSelf(ctx)
	if req.Only == 0 {
		plan := reclaim.NewPlan(v, policy, self)
		err := weigh(ctx, e.sys, &plan, self)
		return plan, err
	}
	only, rest := restrict(v, req.Only)
	if len(only.Blockers) == 0 {
		return reclaim.Plan{}, fmt.Errorf("pid %d does not block %s", req.Only, req.Spec)
	}
	policy.Ends = rest // the port is not free without this process
	plan := reclaim.NewPlan(only, policy, self)
	err = weigh(ctx, e.sys, &plan, self)
	return plan, err
}

// restrict leaves only what one process holds of a verdict's blockers, and
// tells whether there is more.
func restrict(v netstate.Verdict, pid int) (netstate.Verdict, bool) {
	rest := false
	var blockers []netstate.Blocker
	for _, b := range v.Blockers {
		i := slices.IndexFunc(b.Holders, func(h netstate.Holder) bool { return h.ID.PID == pid })
		rest = rest || i < 0 || len(b.Holders) > 1
		if i >= 0 {
			b.Holders = b.Holders[i : i+1]
			blockers = append(blockers, b)
		}
	}
	v.Blockers = blockers
	return v, rest
}

func (e *engine) Gateway() ui.GatewayInfo {
	g := &e.gateway
	return ui.GatewayInfo{
		Spec: g.spec, Command: g.command.Argv, Note: e.note, Dir: g.command.Dir, Log: e.log, Demo: e.demo,
		Retries: e.launch.retry.Retries, Interval: e.launch.retry.Interval,
	}
}
