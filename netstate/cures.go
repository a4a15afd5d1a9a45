package netstate

import (
	"fmt"
	"time"
)

// cures lists what would make this bind succeed, the least harmful first.
func cures(v *Verdict, snap *Snapshot) []Cure {
	if v.Bindable {
		return nil
	}
	port := v.Spec.Port
	var cs []Cure
	add := func(action CureAction, text, command string) {
		cs = append(cs, Cure{Action: action, Text: text, Command: command})
	}
	switch v.Reason {
	case ReasonDenied:
		if port < 1024 {
			add(CurePrivilege, "run the server as root, give it the right to low ports, or choose a port from 1024 up", fmt.Sprintf("setcap cap_net_bind_service=+ep SERVER, or sysctl -w net.ipv4.ip_unprivileged_port_start=%d", port))
		}
		return cs
	case ReasonNoAddress:
		add(CureHost, "bind an address of this machine, such as 127.0.0.1", fmt.Sprintf("berth why %d --host loopback", port))
		return cs
	}
	where := specFlags(v.Spec)
	switch hides := v.Reason == ReasonUnknown || hidden(v); {
	case hides && !snap.Caps.Inodes && snap.Caps.Source == "sock_diag":
		add(CurePrivilege, "mount /proc, without which no socket can be matched to a process", "mount -t proc proc /proc")
	case hides && !snap.Caps.AllHolders:
		add(CurePrivilege, "ask again as root, who sees the holders of all sockets", fmt.Sprintf("sudo berth why %d%s", port, where))
	}
	if v.Reason == ReasonUnknown {
		return cs // what refuses the bind is not visible, so nothing else can be promised
	}
	if !v.Spec.ReuseAddr && reuseHelps(v) {
		add(CureReuseAddr, "let the server set SO_REUSEADDR before it binds, as Node and Go do", fmt.Sprintf("berth why %d%s --reuseaddr", port, hostFlag(v.Spec)))
	}
	if v.Clears.Known() {
		left := v.Clears.Until.Sub(v.At)
		add(CureWait, "wait "+Seconds(v.Clears.From.Sub(v.At)), fmt.Sprintf("berth wait %d%s --timeout %ds", port, where, int(left/time.Second)+1))
	}
	var stoppable, outgoing bool
	lingering := 0
	for i := range v.Blockers {
		b := &v.Blockers[i]
		switch {
		case b.Socket.Lingering():
			lingering++
		case b.Outbound == Yes:
			outgoing = true
		case len(b.Holders) > 0:
			stoppable = true
		}
	}
	if stoppable {
		add(CureStop, "stop "+HoldersText(v.Holders()), fmt.Sprintf("berth free %d%s", port, where))
	}
	if lingering > 0 && snap.Caps.Source == "sock_diag" {
		add(CureDestroy, plural(lingering, "destroy the socket", "destroy the %d sockets")+" that only the kernel holds (root)", fmt.Sprintf("berth free %d%s --destroy", port, where))
	}
	if outgoing || lingering > 0 && snap.Caps.Ephemeral(port) {
		add(CureReserve, "keep the system from giving this port to outgoing connections again (this does not free it now)", fmt.Sprintf("sysctl -w net.ipv4.ip_local_reserved_ports=%d", port))
	}
	for i := range v.Matrix {
		if c := &v.Matrix[i]; c.Bindable == Yes && c.Spec.ReuseAddr == v.Spec.ReuseAddr && c.Spec.ReusePort == v.Spec.ReusePort && c.Spec.Addr != v.Spec.Addr {
			add(CureHost, "bind "+c.Spec.Addr.String()+" instead", fmt.Sprintf("berth why %d --host %s", port, c.Spec.Addr))
			break
		}
	}
	return cs
}

// hidden reports whether a process holds a blocker and cannot be seen.
func hidden(v *Verdict) bool {
	for i := range v.Blockers {
		if b := &v.Blockers[i]; b.Socket.Owned() && len(b.Holders) == 0 {
			return true
		}
	}
	return false
}

// reuseHelps: by the rules the same bind with SO_REUSEADDR is not refused for
// certain, because no blocker listens.
func reuseHelps(v *Verdict) bool {
	for i := range v.Blockers {
		if s := &v.Blockers[i].Socket; s.State == Listen || s.ReuseAddr == No {
			return false
		}
	}
	return true
}

// specFlags repeats the parts of the spec that differ from a command's
// defaults, so that the printed command asks the same question.
func specFlags(b BindSpec) string {
	flags := hostFlag(b)
	if !b.ReuseAddr {
		flags += " --reuseaddr=false"
	}
	if b.ReusePort {
		flags += " --reuseport"
	}
	return flags
}

func hostFlag(b BindSpec) string {
	if b.Addr.String() == "127.0.0.1" && b.Family == INET {
		return ""
	}
	return " --host " + b.Addr.String()
}
