package netstate

// Conflict says whether socket h refuses the bind b, by the one rule that the
// kernel follows (inet_bind_conflict in net/ipv4/inet_connection_sock.c):
// the devices are not different, the addresses overlap, and neither
// SO_REUSEADDR nor SO_REUSEPORT, set on both sides, rescues the bind.
// The answer is Unknown if it hangs on an option of h that is not known.
//
// The rule holds in each network namespace for itself: h must come from the
// namespace in which b will be made.
func Conflict(b BindSpec, h *Socket) Tri {
	if h.Local.Port() != b.Port || !occupies(h) {
		return No
	}
	if b.Device != 0 && h.Device != 0 && b.Device != h.Device {
		return No
	}
	return and(overlap(b, h), not(or(rescuedByAddr(b, h), rescuedByPort(b, h))))
}

// occupies is false for what the table lists but bind does not see: a
// connection request that is not a socket yet.
func occupies(h *Socket) bool {
	return h.State != NewSynRecv && !(h.State == SynRecv && !h.Owned())
}

// rescuedByAddr: both have SO_REUSEADDR and h does not listen. Any other
// state counts the same, TIME-WAIT as much as ESTAB.
func rescuedByAddr(b BindSpec, h *Socket) Tri {
	if !b.ReuseAddr || h.State == Listen {
		return No
	}
	return h.ReuseAddr
}

// rescuedByPort: both have SO_REUSEPORT and belong to one user, or h is a
// TIME-WAIT minisocket, which belongs to nobody.
func rescuedByPort(b BindSpec, h *Socket) Tri {
	if !b.ReusePort {
		return No
	}
	sameUser := Unknown
	switch {
	case minisocket(h):
		sameUser = Yes
	case h.UIDKnown:
		sameUser = TriOf(h.UID == b.UID)
	}
	return and(h.ReusePort, sameUser)
}

// minisocket reports whether the kernel has replaced the socket by the small
// record that waits out TIME-WAIT, or FIN-WAIT-2 after the process closed it.
func minisocket(h *Socket) bool {
	return h.State == TimeWait || h.State == FinWait2 && h.Timer == TimerTimeWait
}

// overlap compares addresses as ipv6_rcv_saddr_equal and
// ipv4_rcv_saddr_equal do, including their one surprise: a bind to AF_INET
// 0.0.0.0 meets every AF_INET6 socket that is not v6only, even one at a
// specific IPv6 address.
func overlap(b BindSpec, h *Socket) Tri {
	ba, ha := b.Addr, h.Local.Addr()
	switch {
	case ba.Is4() && ha.Is4():
		return TriOf(ba == ha || ba.IsUnspecified() || ha.IsUnspecified())
	case ba.Is4(): // h has an IPv6 address
		if ha.IsUnspecified() || b.Family == INET && ba.IsUnspecified() {
			return not(h.V6Only)
		}
		return No
	case ha.Is4(): // b has an IPv6 address
		return TriOf(ba.IsUnspecified() && !b.V6Only)
	}
	return TriOf(ba.WithZone("") == ha.WithZone("") || ba.IsUnspecified() || ha.IsUnspecified())
}

// The three-valued logic of Kleene. Tri is numbered No < Unknown < Yes, so
// "and" is the smaller and "or" the larger.

func not(a Tri) Tri    { return -a }
func and(a, b Tri) Tri { return min(a, b) }
func or(a, b Tri) Tri  { return max(a, b) }
