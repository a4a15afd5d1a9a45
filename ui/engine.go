package ui

import (
	"context"
	"time"

	"berth/gatewaylaunch"
	"berth/gatewaylaunch/bindnotify"
	"berth/netstate"
	"berth/netstate/netns"
	"berth/reclaim"
)

// Reach says whose ports are wanted: those of berth's own network namespace,
// which is the zero value, of another one, or of all.
type Reach struct {
	All   bool
	NetNS netns.Namespace
}

// Table is the sockets of one network namespace, with what is to be said about
// its ports.
type Table struct {
	Snapshot *netstate.Snapshot
	// Verdicts holds, by port, what the rules say about the expected kind of
	// bind on every port that Snapshot shows in use, and for the focused port
	// the verdict of a real bind.
	Verdicts map[uint16]netstate.Verdict
}

// Observation is everything that a page shows, taken at one moment. The
// engine sends a new one each second, and at once when something happened.
type Observation struct {
	At time.Time
	// Table is that of berth's own network namespace, where the gateway lives.
	// Others are those of the other namespaces that are wanted, and Note says
	// in a sentence which of them are missing; empty if none is.
	Table
	Others []Table
	Note   string
	// Owners are those of the sockets of all tables.
	Owners *netstate.Owners
	// Err says why the newest read failed; Snapshot is then the last good
	// one, and Snapshot.At tells its age.
	Err error
}

// tables returns the table of each network namespace, the own one first.
func (o *Observation) tables() []*Table {
	if o.Snapshot == nil {
		return nil
	}
	all := []*Table{&o.Table}
	for i := range o.Others {
		all = append(all, &o.Others[i])
	}
	return all
}

// table returns the table that a place is in, or nil: the namespace may have
// ended, or nobody looks there any more.
func (o *Observation) table(at place) *Table {
	for _, t := range o.tables() {
		if t.Snapshot.NetNS.ID == at.netns.ID {
			return t
		}
	}
	return nil
}

// PlanRequest asks for a plan to free a port.
type PlanRequest struct {
	Spec netstate.BindSpec
	// Only restricts the plan to one holder (pid), or 0 for all blockers.
	Only int
	// Destroy asks for a plan that destroys lingering sockets.
	Destroy bool
	// Restart says that the gateway is started afterwards: a holder that is
	// an earlier instance of it needs no typed confirmation. HandOver says so
	// too, and that what listens goes on to the gateway: the plan only stops.
	Restart, HandOver bool
}

// Held is a plan whose targets are held until Close, which is called once:
// after Run, or instead of it.
type Held interface {
	Plan() reclaim.Plan
	// Support is what works here of a hand-over, if the plan is for one.
	Support() bindnotify.Support
	// Run carries the plan out, once. A hand-over does that by itself.
	Run(ctx context.Context, on func(reclaim.Event)) error
	Close()
}

// GatewayInfo describes the gateway that this berth starts.
type GatewayInfo struct {
	Spec    netstate.BindSpec
	Command []string
	Dir     string
	Log     string
	// Note is what is to be said about the watching of its binds, if that was
	// wanted: why it does not work, or what it costs.
	Note string
	// Demo is set for the embedded demo gateway, which ends with berth.
	Demo    bool
	Retries int
	// Interval is the pause between attempts.
	Interval time.Duration
}

// Engine is what the screen needs from the machine. Every method may be
// called from any goroutine; those with a context block until done.
type Engine interface {
	// Observations carries the newest observation, never a queue. It is
	// closed when the engine ends.
	Observations() <-chan Observation
	// Look says of which network namespaces the observations are to have
	// tables beside that of berth's own.
	Look(reach Reach)
	// Focus makes the engine probe spec with a real bind at each observation
	// that has a table of its network namespace; nil stops that. Refresh asks
	// for an observation now.
	Focus(spec *netstate.BindSpec)
	Refresh()
	// Spec returns the bind that the engine assumes for a port of a network
	// namespace.
	Spec(ns netns.Namespace, port uint16) netstate.BindSpec

	// Plan makes a plan and holds its targets, so that what is confirmed is
	// what was shown.
	Plan(ctx context.Context, req PlanRequest) (Held, error)

	Gateway() GatewayInfo
	// StartGateway launches and watches the gateway until it ends, fails or
	// ctx is cancelled, which stops it. StopGateway asks it to end.
	StartGateway(ctx context.Context, on func(gatewaylaunch.RestartEvent)) error
	// HandOver is StartGateway in the place of the server that the plan stops,
	// with its listening socket. It may begin while the old server is still
	// being watched by StartGateway, which returns when that has ended. The
	// caller closes held afterwards.
	HandOver(ctx context.Context, held Held, how gatewaylaunch.Handover, on func(gatewaylaunch.RestartEvent)) error
	StopGateway(ctx context.Context) error
}
