package gatewaylaunch

import (
	"context"

	"berth/netstate"
	"berth/reclaim"
)

// Kernel is what a launch needs to know from the machine.
type Kernel interface {
	// Why probes and explains, TryBind only probes.
	Why(ctx context.Context, spec netstate.BindSpec) (netstate.Verdict, error)
	TryBind(spec netstate.BindSpec) netstate.Probe
	// Read and Owners find out who listens.
	Read(ctx context.Context) (*netstate.Snapshot, error)
	Owners(ctx context.Context, sockets []netstate.Socket) (*netstate.Owners, error)
	// Wake fires, possibly for nothing, when a socket of the port may have
	// ended, until ctx ends. It may return nil where the system has no such
	// event.
	Wake(ctx context.Context, spec netstate.BindSpec) <-chan struct{}
}

// NewKernel returns the machine that sys reads.
func NewKernel(sys *netstate.System) Kernel { return reclaim.NewSystem(sys) }
