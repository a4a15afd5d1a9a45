package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"berth/netstate"
	"berth/netstate/netns"
	"berth/ui"
)

// findEvery is how often the network namespaces are looked for, which costs a
// look at every process; while something goes on, findAsked.
const (
	findEvery = 5 * time.Second
	findAsked = time.Second
)

// neighbours are the network namespaces that are read beside berth's own. As
// long as one is read it cannot end, so those without a process are let go of.
// It belongs to the goroutine that observes.
type neighbours struct {
	sys   *netstate.System
	reach ui.Reach
	found time.Time         // when they were last looked for
	asked bool              // something may have changed since
	open  []netns.Namespace // those that can be read
	note  string            // what is missing
}

// find brings the list up to date if it is time to, and reports that; asked
// says that something may have changed.
func (n *neighbours) find(ctx context.Context, reach ui.Reach, asked bool, now time.Time) bool {
	n.asked = n.asked || asked
	age := now.Sub(n.found)
	if reach == n.reach && (reach == ui.Reach{} || age < findAsked || age < findEvery && !n.asked) {
		return false
	}
	before := n.open
	n.reach, n.found, n.asked, n.open, n.note = reach, now, false, nil, ""
	var all []netns.Namespace
	switch {
	case reach.All:
		var err error
		if all, err = netstate.Namespaces(ctx); err != nil {
			n.note = withHint(err)
		}
	case !reach.NetNS.Own():
		all = []netns.Namespace{reach.NetNS}
	}
	closed := 0
	for _, ns := range all {
		switch err := ns.Do(func() error { return nil }); {
		case err == nil:
			n.open = append(n.open, ns)
		case !reach.All:
			n.note = withHint(err)
		case !errors.Is(err, fs.ErrNotExist): // else it has just ended
			closed++
		}
	}
	switch {
	case n.note != "" || !reach.All:
	case closed > 0 && len(n.open) > 0:
		n.note = fmt.Sprintf("not shown, because they may not be entered: %d other network namespaces", closed)
		if closed == 1 {
			n.note = "not shown, because it may not be entered: 1 other network namespace"
		}
	case closed > 0 || len(all) == 0 && os.Geteuid() > 0:
		n.note = onlyOwn
	case len(all) == 0:
		n.note = "berth's own network namespace is the only one"
	}
	for _, ns := range before {
		if !slices.ContainsFunc(n.open, func(o netns.Namespace) bool { return o.ID == ns.ID }) {
			n.forget(ns)
		}
	}
	return true
}

// read returns the table of each neighbour, without verdicts. One that cannot
// be read is left out until it is looked for again.
func (n *neighbours) read(ctx context.Context) []ui.Table {
	var tables []ui.Table
	n.open = slices.DeleteFunc(n.open, func(ns netns.Namespace) bool {
		snap, err := n.sys.ReadIn(ctx, netstate.Scope{NetNS: ns})
		switch {
		case err == nil:
			tables = append(tables, ui.Table{Snapshot: snap, Verdicts: map[uint16]netstate.Verdict{}})
			return false
		case ctx.Err() != nil:
			return false
		case !errors.Is(err, fs.ErrNotExist):
			n.note = fmt.Sprintf("netns %s is left out: %s", ns, withHint(err))
		}
		n.forget(ns)
		return true
	})
	return tables
}

// withHint is an error and what to do about it, in one sentence.
func withHint(err error) string {
	if hint := hintOf(err); hint != "" {
		return err.Error() + ": " + hint
	}
	return err.Error()
}

func (n *neighbours) forget(ns netns.Namespace) {
	// What is closed here is a socket that was only read from.
	_ = n.sys.Forget(netstate.Scope{NetNS: ns})
}
