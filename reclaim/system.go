package reclaim

import (
	"berth/netstate"
)

// System is the real machine as a Kernel. Reading and probing come from
// netstate; this package adds what changes something.
type System struct {
	*netstate.System
}

// NewSystem returns the machine that sys reads.
func NewSystem(sys *netstate.System) *System { return &System{sys} }

// TryBind makes one real bind.
func (*System) TryBind(spec netstate.BindSpec) netstate.Probe { return netstate.TryBind(spec) }
