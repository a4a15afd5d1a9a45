package netstate

import (
	"fmt"
	"time"
)

// cures lists what would make this bind succeed, the least harmful first. Each
// suffices alone; where that hangs on an option that is hidden, its text says
// so ("…, if …"). Two entries promise less and say so too: to ask again
// with more rights, and to reserve the port, which prevents the next refusal.
//
// sockets are those of the port with their options filled in.
func cures(v *Verdict, snap *Snapshot, sockets []Socket) []Cure {
	if v.Bindable {
		return nil
	}
	switch v.Reason {
	case ReasonDenied:
		return curesDenied(v, snap, sockets)
	case ReasonNoAddress:
		return cureHost(v, snap, sockets)
	}
	var cs []Cure
	switch hides := v.Reason == ReasonUnknown || hidden(v); {
	case hides && !snap.Caps.Inodes && snap.Caps.Source == "sock_diag":
		cs = append(cs, Cure{CurePrivilege, "mount /proc, without which no socket can be matched to a process", "mount -t proc proc /proc"})
	case hides && !snap.Caps.AllHolders:
		cs = append(cs, Cure{CurePrivilege, "ask again as root, who sees the holders of all sockets", fmt.Sprintf("sudo berth why %d%s", v.Spec.Port, bindFlags(v.Spec, 0))})
	}
	if v.Reason == ReasonUnknown {
		return cs // what refuses the bind is not visible, so nothing else can be promised
	}
	cs = append(cs, cureReuseAddr(v, sockets)...)
	cs = append(cs, cureWait(v)...)
	way := inTheWay(v)
	cs = append(cs, way.stop(v, snap)...)
	cs = append(cs, way.destroy(v, snap)...)
	if way.taken(&snap.Caps, v.Spec.Port) && runsLinux(snap) {
		// The list is kept: a bare value would replace what others reserved.
		cs = append(cs, Cure{CureReserve, "keep the system from giving this port to outgoing connections again (this does not free it now)",
			fmt.Sprintf(`sysctl -w net.ipv4.ip_local_reserved_ports="%d,$(sysctl -n net.ipv4.ip_local_reserved_ports)"`, v.Spec.Port)})
	}
	return append(cs, cureHost(v, snap, sockets)...)
}

// curesDenied: the kernel compares the port with the user's rights before it
// looks for a conflict, so the right helps only if there is none.
func curesDenied(v *Verdict, snap *Snapshot, sockets []Socket) []Cure {
	port := v.Spec.Port
	if port >= 1024 {
		return nil
	}
	open := free(v.Spec, sockets)
	if open == No {
		return []Cure{{CurePrivilege, "ask again as root: the right to low ports alone does not help, since the port is in use as well", fmt.Sprintf("sudo berth why %d%s", port, specFlags(v.Spec))}}
	}
	only := provided(open, "the sockets on the port allow it")
	cs := []Cure{{CurePrivilege, "run the server as root or with the right to low ports, or choose a port from 1024 up" + only, ""}}
	if runsLinux(snap) {
		cs[0].Command = "setcap cap_net_bind_service=+ep SERVER"
		cs = append(cs, Cure{CurePrivilege, fmt.Sprintf("let every user bind ports from %d up (root)%s", port, only), fmt.Sprintf("sysctl -w net.ipv4.ip_unprivileged_port_start=%d", port)})
	}
	return cs
}

// cureHost finds another address at which nothing refuses the same bind.
func cureHost(v *Verdict, snap *Snapshot, sockets []Socket) []Cure {
	if v.Spec.Device != 0 && v.Errno == "ENODEV" {
		return nil // the device is missing at any address
	}
	for i := range v.Matrix {
		b := v.Matrix[i].Spec
		b.ReuseAddr, b.ReusePort = v.Spec.ReuseAddr, v.Spec.ReusePort
		if b.Addr == v.Spec.Addr && b.Family == v.Spec.Family || free(b, sockets) != Yes {
			continue
		}
		if b.Family == INET6 && snap.Caps.IPv6 == No {
			continue
		}
		text := "bind " + b.Addr.String() + " instead"
		if b.Addr.IsUnspecified() && b.V6Only {
			text += ", with IPV6_V6ONLY"
		}
		if v.Reason == ReasonNoAddress {
			text = "bind an address of this machine, such as " + b.Addr.String()
			if v.Spec.Port < 1024 && v.Spec.UID != 0 {
				// The address is checked before the right.
				text += provided(Unknown, "this user may bind ports below 1024")
			}
		}
		return []Cure{{CureHost, text, fmt.Sprintf("berth why %d%s", b.Port, bindFlags(b, currentUID()))}}
	}
	return nil
}

func cureReuseAddr(v *Verdict, sockets []Socket) []Cure {
	b := v.Spec
	b.ReuseAddr = true
	open := free(b, sockets)
	if v.Spec.ReuseAddr || open == No {
		return nil
	}
	if b.Protocol == UDP {
		return []Cure{{CureReuseAddr, "let the server set SO_REUSEADDR, as the other has: they then share the port, and a datagram to one address reaches only one of them" + provided(open, "the other has it"), fmt.Sprintf("berth why %d%s", b.Port, bindFlags(b, currentUID()))}}
	}
	return []Cure{{CureReuseAddr, "let the server set SO_REUSEADDR before it binds, as Node and Go do" + provided(open, "the earlier one did too"), fmt.Sprintf("berth why %d%s", b.Port, bindFlags(b, currentUID()))}}
}

func cureWait(v *Verdict) []Cure {
	if !v.Clears.Known() {
		return nil
	}
	// What only may block has to end as well, or to turn out harmless.
	clears, only := v.Clears, ""
	if len(v.Possible) > 0 {
		if all := latest(append(v.Blockers[:len(v.Blockers):len(v.Blockers)], v.Possible...)); all.Known() {
			clears = all
		} else {
			only = provided(Unknown, plural(len(v.Possible), "the other socket there allows it", "the %d other sockets there allow it"))
		}
	}
	timeout := int(clears.Until.Sub(v.At)/time.Second) + 1
	return []Cure{{CureWait, "wait " + Seconds(clears.From.Sub(v.At)) + only, fmt.Sprintf("berth wait %d%s --timeout %ds", v.Spec.Port, bindFlags(v.Spec, currentUID()), timeout)}}
}

// obstacles sorts the blockers by what removes them.
type obstacles struct {
	// lingering sockets are those that only the kernel holds; the last of
	// them ends at gone, if that is known.
	lingering int
	gone      Clears
	// outgoing: a client's own end is among the blockers. Its process is not
	// the one to stop, but its connection can be destroyed, unless stuck is set
	// as well.
	outgoing bool
	// stuck: something is there that neither a signal nor a destruction that
	// berth would make removes.
	stuck bool
	// stoppable holders are there to be stopped; what they leave of their
	// connections then blocks for a bounded time (leaves) or without one
	// (endless).
	stoppable, leaves, endless bool
}

func inTheWay(v *Verdict) (o obstacles) {
	listener := false
	var lingering []Blocker
	for i := range v.Blockers {
		b := &v.Blockers[i]
		listener = listener || b.Socket.State == Listen
		if b.Socket.Lingering() {
			lingering = append(lingering, *b)
		}
	}
	o.lingering, o.gone = len(lingering), latest(lingering)
	for i := range v.Blockers {
		b := &v.Blockers[i]
		switch s := &b.Socket; {
		case s.Lingering():
		case !s.Owned():
			// An unaccepted connection is reset when its listener closes.
			o.stuck = o.stuck || !listener
		case b.Outbound == Yes:
			// Destroying it frees a port that the system chose for the client,
			// and none that the client has bound by number.
			chosen := v.Spec.Protocol == TCP && v.Caps.Ephemeral(s.Local.Port())
			o.outgoing, o.stuck = true, o.stuck || !chosen
		case len(b.Holders) == 0:
			o.stuck = true
		default:
			o.stoppable = true
			leaves, endless := leftBehind(v.Spec, s)
			o.leaves, o.endless = o.leaves || leaves, o.endless || endless
		}
	}
	return o
}

// leftBehind says what becomes of a socket whose process ends: a connection
// that is closed by this end first goes through FIN-WAIT-2 and TIME-WAIT, in
// which it blocks as before. One that has still to deliver data has no bound.
func leftBehind(b BindSpec, s *Socket) (leaves, endless bool) {
	if b.Protocol == UDP {
		return false, false
	}
	switch s.State {
	case Listen, Bound, Closed, SynSent:
		return false, false
	case CloseWait:
		if s.SendQ == 0 {
			return false, false // the answer to its FIN ends it at once
		}
	}
	t := *s
	t.State, t.Inode, t.PID = TimeWait, 0, 0
	if Conflict(b, &t) == No {
		return false, false
	}
	return true, s.SendQ > 0 || s.State != Established && s.State != FinWait2
}

// taken reports whether the system itself may have given the port to a client,
// and may do so again.
func (o *obstacles) taken(caps *Caps, port uint16) bool {
	if caps.EphemeralFrom == 0 {
		return o.outgoing
	}
	return caps.Ephemeral(port) && (o.outgoing || o.lingering > 0)
}

func (o *obstacles) stop(v *Verdict, snap *Snapshot) []Cure {
	if !o.stoppable || o.stuck || o.outgoing || o.lingering > 0 && (!o.gone.Known() || o.gone.From.Sub(v.At) > ReclaimWait) {
		return nil
	}
	text, command := "stop "+stopText(v), fmt.Sprintf("berth free %d%s", v.Spec.Port, specFlags(v.Spec))
	var most time.Duration // from now on
	if o.lingering > 0 {
		most = o.gone.Until.Sub(v.At)
		text += ", then wait " + Seconds(o.gone.From.Sub(v.At))
	}
	if o.leaves && runsLinux(snap) {
		if o.endless || snap.Caps.Wheel == nil {
			return nil
		}
		most = max(most, snap.Caps.Wheel.finTimeout+timeWaitLen+2*worstSlack)
		text = fmt.Sprintf("stop %s, then wait up to %d s for its connections", stopText(v), int(most/time.Second)+1)
	}
	if most > ReclaimWait {
		command += fmt.Sprintf("; berth wait %d%s --timeout %ds", v.Spec.Port, bindFlags(v.Spec, currentUID()), int(most/time.Second)+1)
	}
	if len(v.Possible) > 0 {
		text += provided(Unknown, plural(len(v.Possible), "the other socket there allows it", "the %d other sockets there allow it"))
	}
	return []Cure{{CureStop, text, command}}
}

// destroy is done by root, who also sees which of the possible blockers are
// blockers.
func (o *obstacles) destroy(v *Verdict, snap *Snapshot) []Cure {
	if o.stuck || o.lingering == 0 && !o.leaves && !o.outgoing || snap.Caps.Source != "sock_diag" {
		return nil
	}
	text := plural(o.lingering, "destroy the socket", "destroy the %d sockets") + " that only the kernel holds (root)"
	if o.stoppable {
		text = "stop " + stopText(v) + " and destroy what is left (root)"
	}
	switch {
	case o.outgoing && (o.stoppable || o.lingering > 0):
		text += " and the outgoing connection that uses the port, if the system chose the port for it"
	case o.outgoing:
		text = "destroy the outgoing connection that uses the port, whose client sees a reset (root), if the system chose the port for it"
	}
	return []Cure{{CureDestroy, text, fmt.Sprintf("berth free %d%s --destroy", v.Spec.Port, specFlags(v.Spec))}}
}

// stopText names everybody who has to be stopped.
func stopText(v *Verdict) string {
	all := v.Holders()
	for i := range v.Blockers {
		if hs := v.Blockers[i].Holders; len(hs) == len(all) {
			return v.holdersText(hs) // they share this socket
		}
	}
	return v.holdersText(all[:1]) + plural(len(all)-1, " and 1 more process", " and %d more processes")
}

// provided makes a promise depend on what is not known.
func provided(known Tri, condition string) string {
	if known == Yes {
		return ""
	}
	return ", if " + condition
}

// runsLinux tells by where the table came from, since a verdict may be
// explained on another system than the one it was taken on.
func runsLinux(snap *Snapshot) bool {
	return snap.Caps.Source == "sock_diag" || snap.Caps.Source == "/proc/net"
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

// free says whether the rules let the bind through.
func free(b BindSpec, sockets []Socket) Tri {
	open := Yes
	for i := range sockets {
		open = and(open, not(Conflict(b, &sockets[i])))
	}
	return open
}

// bindFlags are specFlags for the verbs that only make the bind: they can make
// it as another user than the one who runs them, where that matters.
func bindFlags(b BindSpec, runsAs uint32) string {
	flags := specFlags(b)
	if b.UID != runsAs && (b.ReusePort || b.Port < 1024 && runsAs != 0) {
		flags += fmt.Sprintf(" --uid %d", b.UID)
	}
	return flags
}

// specFlags repeats the parts of the spec that differ from a command's
// defaults, so that the printed command asks the same question.
func specFlags(b BindSpec) string {
	flags := ""
	if b.Host() != "127.0.0.1" {
		flags += " --host " + b.Host()
	}
	if b.Protocol == UDP {
		flags += " --udp"
	}
	if b.ReuseAddr != NewBindSpec(b.Addr, b.Port).In(b.Scope).ReuseAddr {
		flags += fmt.Sprintf(" --reuseaddr=%t", b.ReuseAddr)
	}
	if b.ReusePort {
		flags += " --reuseport"
	}
	if !b.NetNS.Own() {
		flags += " --netns " + b.NetNS.Arg()
	}
	if b.Family == INET6 && b.V6Only != NewBindSpec(b.written(), b.Port).V6Only {
		flags += fmt.Sprintf(" --v6only=%t", b.V6Only)
	}
	return flags
}
