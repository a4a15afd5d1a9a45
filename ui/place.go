package ui

import (
	"fmt"

	"berth/netstate"
	"berth/netstate/netns"
)

// place is a port of one network namespace. The same number elsewhere is
// another port: no bind here ever meets a socket there.
type place struct {
	netns netns.Namespace
	port  uint16
}

func placeOf(spec netstate.BindSpec) place { return place{spec.NetNS, spec.Port} }

// placeID is a place as far as two of them differ: a namespace gets another
// name when the process that it is called by ends.
type placeID struct {
	netns uint64
	port  uint16
}

func (p place) id() placeID { return placeID{p.netns.ID, p.port} }

// String returns "80", or "80 in netns blue" where that is not berth's own.
func (p place) String() string {
	if p.netns.Own() {
		return fmt.Sprint(p.port)
	}
	return fmt.Sprintf("%d in netns %s", p.port, p.netns)
}
