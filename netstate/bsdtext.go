package netstate

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// parseDarwinNetstat reads what "netstat -anvW -p tcp" prints on macOS and
// appends its sockets to dst. It also returns how many lines of TCP sockets it
// did not understand. The line of titles says where the process is: in a
// column "pid" up to macOS 14, as "name:pid" since then, and the name may
// contain spaces.
//
//	Proto Recv-Q Send-Q  Local Address   Foreign Address  (state)  rhiwat shiwat    pid   epid …
//	tcp46      0      0  *.3000          *.*              LISTEN   131072 131072  33784      0 …
//
//	Proto Recv-Q Send-Q  Local Address   Foreign Address  (state)  … rhiwat  shiwat  process:pid    state …
//	tcp4       0      0  127.0.0.1.5000  *.*              LISTEN   … 131072  131072  My App:661     00102 …
func parseDarwinNetstat(text []byte, dst []Socket) ([]Socket, int) {
	const columnsBeforeState = 5
	pidAt, skipped := -1, 0
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) > 0 && f[0] == "Proto" {
			// The titles of the two address columns are two words each, so
			// positions are counted from the state on.
			pidAt = -1
			if state := slices.Index(f, "(state)"); state >= 0 {
				if i := slices.Index(f[state:], "pid"); i >= 0 {
					pidAt = columnsBeforeState + i
				}
			}
			continue
		}
		if len(f) == 0 || !strings.HasPrefix(f[0], "tcp") {
			continue
		}
		if len(f) <= columnsBeforeState {
			skipped++
			continue
		}
		pid := 0
		if pidAt >= 0 && pidAt < len(f) {
			pid, _ = parsePID(f[pidAt])
		} else if pidAt < 0 {
			pid = pidAfterName(f[columnsBeforeState+1:])
		}
		s, ok := bsdSocket(f[0], f[3], f[4], f[5], '.', pid)
		if !ok {
			skipped++
			continue
		}
		recv, _ := strconv.ParseUint(f[1], 10, 32)
		send, _ := strconv.ParseUint(f[2], 10, 32)
		s.RecvQ, s.SendQ = uint32(recv), uint32(send)
		if s.Local.Port() != 0 { // a socket without a port is in nobody's way
			dst = append(dst, s)
		}
	}
	return dst, skipped
}

// pidAfterName finds "name:661" among columns that are otherwise numbers. The
// name comes after them, so the first column that ends in a colon and a
// number is it, wherever the spaces in the name fall.
func pidAfterName(columns []string) int {
	for _, c := range columns {
		if i := strings.LastIndexByte(c, ':'); i >= 0 {
			if pid, ok := parsePID(c[i+1:]); ok {
				return pid
			}
		}
	}
	return 0
}

// parseSockstat reads what "sockstat -46sw -P tcp" prints on FreeBSD, one line
// for each process that has a socket open, and one with question marks for a
// socket that no process has. The command may contain spaces, so columns are
// counted from the protocol.
//
//	USER     COMMAND    PID   FD  PROTO  LOCAL ADDRESS    FOREIGN ADDRESS   PATH STATE   CONN STATE
//	root     sshd         734 4   tcp4   *:22             *:*                            LISTEN
//	?        ?          ?     ?   tcp4   127.0.0.1:8080   127.0.0.1:51000                TIME_WAIT
func parseSockstat(text []byte, dst []Socket) ([]Socket, int) {
	skipped := 0
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		at := -1
		for i := len(f) - 1; i >= 4; i-- {
			if f[i] == "tcp4" || f[i] == "tcp6" || f[i] == "tcp46" {
				at = i
				break
			}
		}
		if at < 0 {
			if len(f) > 0 && f[0] != "USER" {
				skipped++
			}
			continue
		}
		if len(f) < at+4 {
			skipped++
			continue
		}
		pid, _ := parsePID(f[at-2]) // "?" is nobody
		s, ok := bsdSocket(f[at], f[at+1], f[at+2], f[at+3], ':', pid)
		if !ok {
			skipped++
			continue
		}
		// A process may hold a socket by several descriptors, and a socket
		// without a port is in nobody's way.
		if s.Local.Port() != 0 && !slices.Contains(dst, s) {
			dst = append(dst, s)
		}
	}
	return dst, skipped
}

// parsePID reads a process number; a text that is none is process 0, nobody.
func parsePID(text string) (int, bool) {
	n, err := strconv.ParseUint(text, 10, 31)
	if err != nil {
		return 0, false
	}
	return int(n), true
}

// bsdSocket puts the columns that both tools share together.
func bsdSocket(proto, local, remote, state string, separator byte, pid int) (Socket, bool) {
	s := Socket{Family: INET}
	if proto != "tcp4" {
		s.Family = INET6
	}
	var ok bool
	if s.State, ok = bsdStates[state]; !ok {
		return Socket{}, false
	}
	if s.Local, ok = bsdAddr(local, separator, s.Family); !ok {
		return Socket{}, false
	}
	if s.Remote, ok = bsdAddr(remote, separator, s.Family); !ok {
		return Socket{}, false
	}
	if s.Remote.Port() == 0 {
		s.Remote = netip.AddrPort{}
	}
	if s.State == Closed {
		// A closed socket that still has a port is a bound one.
		s.State = Bound
	}
	if s.State == Listen || s.State == Bound {
		switch proto {
		case "tcp6":
			s.V6Only = Yes
		case "tcp46":
			s.V6Only = No
		}
	}
	if s.State != TimeWait { // the tools may print the process that had it
		s.PID = pid
	}
	return s, true
}

// bsdStates are the names of tcpstates in netinet/tcp_fsm.h.
var bsdStates = map[string]State{
	"CLOSED": Closed, "LISTEN": Listen, "SYN_SENT": SynSent, "SYN_RCVD": SynRecv,
	"ESTABLISHED": Established, "CLOSE_WAIT": CloseWait, "FIN_WAIT_1": FinWait1,
	"CLOSING": Closing, "LAST_ACK": LastAck, "FIN_WAIT_2": FinWait2, "TIME_WAIT": TimeWait,
}

// bsdAddr reads "127.0.0.1.80", "*.80", "*.*", "::1.80" or "fe80::1%lo0.80",
// or the same with a colon before the port.
func bsdAddr(text string, separator byte, family Family) (netip.AddrPort, bool) {
	i := strings.LastIndexByte(text, separator)
	if i < 0 {
		return netip.AddrPort{}, false
	}
	host, portText := text[:i], text[i+1:]
	var port uint64
	if portText != "*" {
		var err error
		if port, err = strconv.ParseUint(portText, 10, 16); err != nil {
			return netip.AddrPort{}, false
		}
	}
	addr := netip.IPv4Unspecified()
	if family == INET6 {
		addr = netip.IPv6Unspecified()
	}
	if host != "*" {
		var err error
		if addr, err = netip.ParseAddr(host); err != nil {
			return netip.AddrPort{}, false
		}
	}
	return netip.AddrPortFrom(addr.Unmap(), uint16(port)), true
}
