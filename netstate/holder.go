package netstate

import (
	"slices"
	"time"
)

// ProcessID identifies a process beyond the reuse of its number. Start is the
// kernel's own start time in the system's unit (clock ticks since boot on
// Linux): two processes with one PID never share it. It is only for equality.
type ProcessID struct {
	PID   int
	Start uint64
}

// Parent is one step of a process's ancestry.
type Parent struct {
	PID  int    `json:"pid"`
	Name string `json:"name"`
}

// Holder is a process that has a socket open. Facts that could not be read
// are empty; UID is -1 if it is not known. All text comes from the other
// process and must be cleaned before it reaches a terminal.
type Holder struct {
	ID      ProcessID
	Started time.Time
	// Name is the short name (comm), Cmdline the whole command.
	Name    string
	Cmdline []string
	User    string
	UID     int
	Cwd     string
	// FD is the lowest descriptor by which the process holds the socket, or -1.
	FD int
	// Parents go from the direct parent upwards.
	Parents []Parent
	// Unit is the systemd unit and Container the container that the process
	// runs in, read from its control group; empty if none.
	Unit, Container string
	// Supervisor will start the process again, or is to be asked first; nil if
	// none is recognised.
	Supervisor *Supervisor
}

// Owners maps sockets to the processes that hold them.
type Owners struct {
	byInode map[uint64][]Holder
	byPID   map[int]Holder
	// Hidden counts sockets that some process holds but whose process this
	// user may not see.
	Hidden int
}

// NewOwners returns an empty mapping.
func NewOwners() *Owners {
	return &Owners{byInode: map[uint64][]Holder{}, byPID: map[int]Holder{}}
}

// Add records that h holds the socket with this inode.
func (o *Owners) Add(inode uint64, h Holder) {
	o.byInode[inode] = append(o.byInode[inode], h)
}

// sort brings the holders of each socket into the order of their pids.
func (o *Owners) sort() {
	for _, hs := range o.byInode {
		slices.SortFunc(hs, func(a, b Holder) int { return a.ID.PID - b.ID.PID })
	}
}

// AddPID records the facts of a process, for tables that list a pid and no
// inode.
func (o *Owners) AddPID(h Holder) { o.byPID[h.ID.PID] = h }

// Of returns every process that holds s, lowest pid first; nil if nobody does
// or nobody who may be seen.
func (o *Owners) Of(s *Socket) []Holder {
	if o == nil {
		return nil
	}
	if s.Inode != 0 {
		if hs := o.byInode[s.Inode]; len(hs) > 0 {
			return hs
		}
	}
	if s.PID != 0 {
		if h, ok := o.byPID[s.PID]; ok {
			return []Holder{h}
		}
	}
	return nil
}

// OfAll returns every process that holds one of the sockets, each once,
// lowest pid first.
func (o *Owners) OfAll(sockets []Socket) []Holder {
	var all []Holder
	seen := map[int]bool{}
	for i := range sockets {
		for _, h := range o.Of(&sockets[i]) {
			if !seen[h.ID.PID] {
				seen[h.ID.PID] = true
				all = append(all, h)
			}
		}
	}
	slices.SortFunc(all, func(a, b Holder) int { return a.ID.PID - b.ID.PID })
	return all
}
