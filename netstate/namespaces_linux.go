package netstate

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"

	"berth/netstate/netns"
)

// Namespaces returns every network namespace but this process's own, as far as
// this user may see them, each with a name that a person knows it by: that of
// ip-netns(8), the container, the systemd unit or the first process in it.
func Namespaces(ctx context.Context) ([]netns.Namespace, error) {
	all, err := netns.List(ctx)
	for i := range all {
		if n := &all[i]; n.PID != 0 {
			n.Name = namespaceName(n)
		}
	}
	return all, err
}

// hostName is the namespace of the machine's first process, when berth runs in
// another one.
const hostName = "host"

// kthreadd is process 2 of a machine, above all kernel threads. It lives in the
// host's namespace too, and can be seen where process 1 is protected.
const kthreadd = "kthreadd"

// FindNamespace returns the namespace that a person means: everything that
// netns.Find takes, "host" for that of process 1, or a container as a holder's Container names it, with or
// without its engine, or the beginning of its id. The error matches
// netns.ErrUnknown if there is none.
func FindNamespace(ctx context.Context, name string) (netns.Namespace, error) {
	arg := name
	if name == hostName {
		arg = "1"
	}
	n, err := netns.Find(ctx, arg)
	if err == nil {
		if n.PID != 0 {
			n.Name = namespaceName(&n)
		}
		return n, nil
	}
	all, listErr := Namespaces(ctx)
	if listErr != nil {
		return n, err
	}
	var found []netns.Namespace
	for _, candidate := range all {
		if _, container := controlGroup(candidate.PID); calledBy(name, container) {
			found = append(found, candidate)
		}
	}
	switch len(found) {
	case 0:
		return n, err
	case 1:
		return found[0], nil
	}
	return n, &netns.Error{Op: "find", Name: name, Err: fmt.Errorf("%d containers are called that", len(found)), Hint: "give more of the container's id"}
}

// calledBy reports whether a person means a container, as Holder names it, by
// a name: the whole of it, its part without the engine, or the beginning of an
// id, which may also be longer than the part that is shown.
func calledBy(name, container string) bool {
	const shortest = 4 // a shorter beginning is more likely something else
	_, id, _ := strings.Cut(container, " ")
	switch {
	case container == "" || name == "":
		return false
	case name == container, name == id:
		return true
	case len(name) < shortest || !isHex(id) || !isHex(name) || len(id) != idLength:
		return false
	}
	return strings.HasPrefix(id, name) || strings.HasPrefix(name, id)
}

// namespaceName prefers the container, which people know, over the file that
// its engine mounted, and that over the process.
func namespaceName(n *netns.Namespace) string {
	unit, container := controlGroup(n.PID)
	comm := commOf(n.PID)
	switch {
	case n.PID == 1 || n.PID == 2 && comm == kthreadd:
		return hostName
	case container != "":
		return container
	case n.Name != "" && !strings.HasPrefix(n.Name, "pid "):
		return n.Name
	case unit != "":
		return unit
	}
	return strings.TrimSpace(comm + " " + strconv.Itoa(n.PID))
}

func commOf(pid int) string {
	comm, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/comm")
	if err != nil {
		return "pid"
	}
	return strings.TrimSpace(string(comm))
}
