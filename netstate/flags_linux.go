package netstate

import (
	"slices"

	"golang.org/x/sys/unix"

	"berth/netstate/sockdiag"
	"berth/netstate/sockflags"
)

// flags asks each owned socket itself, through a duplicate of its descriptor:
// the kernel's table never shows SO_REUSEADDR. The duplicate lives for
// microseconds and is only read. Where ptrace rules forbid it (another user's
// process, Yama), the options stay Unknown.
//
// Sockets that no process owns are read by a BPF iterator, which needs root
// and costs milliseconds: it is asked only if the answer for spec hangs on
// them, or the answer to what a refused server would try first.
func (d *diagBackend) flags(spec BindSpec, sockets []Socket, owners *Owners) {
	// Without SO_REUSEADDR no option of another socket rescues the bind, and
	// whether to set it is the next question.
	flagged := spec
	flagged.ReuseAddr = true
	asked := 0
	for i := range sockets {
		s := &sockets[i]
		if f, ok := d.remembered[spec.Port][s.Cookie]; ok && minisocket(s) {
			setFlags(s, f)
			continue
		}
		if !s.Serving() {
			if asked == maxAsked || Conflict(spec, s) != Unknown && Conflict(flagged, s) != Unknown {
				continue
			}
			asked++
		}
		for _, h := range owners.Of(s) {
			if h.FD >= 0 && readFlags(s, h) {
				break
			}
		}
	}
	if free(flagged, sockets) == Unknown || slices.ContainsFunc(sockets, func(s Socket) bool { return Conflict(spec, &s) == Unknown }) {
		d.iterate(sockets)
	}
	d.remember(spec.Port, sockets)
}

// remember keeps the options of a port's minisockets: nobody can change them
// any more, so that somebody who watches a countdown reads them once.
func (d *diagBackend) remember(port uint16, sockets []Socket) {
	delete(d.remembered, port)
	for i := range sockets {
		s := &sockets[i]
		if s.FlagsFrom != FlagsBPF || !minisocket(s) {
			continue
		}
		if d.remembered == nil {
			d.remembered = map[uint16]map[uint64]sockflags.Flags{}
		}
		if d.remembered[port] == nil {
			d.remembered[port] = map[uint64]sockflags.Flags{}
		}
		d.remembered[port][s.Cookie] = sockflags.Flags{
			Cookie: s.Cookie, ReuseAddr: s.ReuseAddr == Yes, ReusePort: s.ReusePort == Yes, V6Only: s.V6Only == Yes,
		}
	}
}

// maxAsked bounds the connections whose options are asked one by one, at a
// few microseconds each: a busy server has thousands, and they seldom differ.
const maxAsked = 256

// iterate fills in the options of the sockets that are still unknown.
func (d *diagBackend) iterate(sockets []Socket) {
	if d.query.Protocol == sockdiag.UDP {
		return // every UDP socket belongs to a process, which was asked
	}
	if !d.iterTried {
		// Without the right the answer will not change, so one try is enough
		// and the options stay unknown.
		d.iterTried = true
		d.iter, _ = sockflags.Open()
	}
	if d.iter == nil {
		return
	}
	byCookie := make(map[uint64]*Socket, len(sockets))
	for i := range sockets {
		if s := &sockets[i]; s.FlagsFrom == FlagsUnknown && s.Cookie != 0 {
			byCookie[s.Cookie] = s
		}
	}
	// An error here leaves the rest unknown, which is what is known then.
	_ = d.iter.Read(func(f sockflags.Flags) {
		if s := byCookie[f.Cookie]; s != nil {
			setFlags(s, f)
		}
	})
}

func setFlags(s *Socket, f sockflags.Flags) {
	s.ReuseAddr, s.ReusePort, s.FlagsFrom = TriOf(f.ReuseAddr), TriOf(f.ReusePort), FlagsBPF
	if s.Family == INET6 {
		s.V6Only = TriOf(f.V6Only)
	}
}

// readFlags reports whether it learnt the options of s from holder h.
func readFlags(s *Socket, h Holder) bool {
	pidfd, err := unix.PidfdOpen(h.ID.PID, 0)
	if err != nil {
		return false
	}
	defer unix.Close(pidfd)
	fd, err := unix.PidfdGetfd(pidfd, h.FD, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	// The descriptor may have become another socket since it was listed.
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Ino != s.Inode || s.Inode == 0 {
		return false
	}
	reuseAddr, err1 := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR)
	reusePort, err2 := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT)
	if err1 != nil || err2 != nil {
		return false
	}
	s.ReuseAddr, s.ReusePort = TriOf(reuseAddr != 0), TriOf(reusePort != 0)
	s.FlagsFrom = FlagsGetsockopt
	if s.Family == INET6 {
		if v, err := unix.GetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY); err == nil {
			s.V6Only = TriOf(v != 0)
		}
	}
	return true
}
