package netstate

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// caps is worked out once, as what this process may see does not change, but
// for the clock of the timers.
func (d *diagBackend) caps() Caps {
	if d.known == nil {
		c := Caps{Source: "sock_diag", Timers: true, Bound: kernelAtLeast(6, 8), Inodes: true}
		c.AllHolders = hasCapability(unix.CAP_SYS_PTRACE) && hasCapability(unix.CAP_DAC_READ_SEARCH)
		c.Destroy = hasCapability(unix.CAP_NET_ADMIN)
		c.EphemeralFrom, c.EphemeralTo = ephemeralRange()
		c.IPv6 = loopbackIPv6()
		d.wheel = openWheel()
		if !c.Bound {
			c.Notes = append(c.Notes, "sockets that are bound but do not listen are not listed before Linux 6.8")
		}
		if _, err := os.Stat("/proc/self/fd"); err != nil {
			c.Inodes = false
			c.AllHolders = false
			c.Notes = append(c.Notes, "/proc cannot be read, so no socket can be matched to a process: mount it")
		} else if !c.AllHolders {
			c.Notes = append(c.Notes, "other users' processes are hidden: run as root to see who holds their sockets")
		}
		d.known = &c
	}
	c := *d.known
	c.Wheel = d.wheel.read(d.began)
	return c
}

// ephemeralRange reads ip_local_port_range of this network namespace.
func ephemeralRange() (from, to uint16) {
	b, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		return 0, 0
	}
	if _, err := fmt.Fscan(strings.NewReader(string(b)), &from, &to); err != nil {
		return 0, 0
	}
	return from, to
}

// loopbackIPv6 looks for ::1 among the addresses of the thread's network
// namespace. A
// kernel without IPv6 has no such list.
func loopbackIPv6() Tri {
	b, err := os.ReadFile("/proc/thread-self/net/if_inet6")
	switch {
	case err == nil:
		return TriOf(strings.Contains(string(b), strings.Repeat("0", 31)+"1 "))
	case errors.Is(err, os.ErrNotExist):
		if _, err := os.Stat("/proc/thread-self/net/tcp"); err == nil {
			return No
		}
	}
	return Unknown
}

// hasCapability reports whether this process has an effective capability.
func hasCapability(bit int) bool {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		return false
	}
	return data[bit/32].Effective&(1<<(bit%32)) != 0
}

// kernelAtLeast compares the release that uname gives, such as "6.8.0-45".
func kernelAtLeast(major, minor int) bool {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return false
	}
	var a, b int
	if _, err := fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &a, &b); err != nil {
		return false
	}
	return a > major || a == major && b >= minor
}

// MayDestroy reports whether this process may destroy single sockets.
func MayDestroy() bool { return hasCapability(unix.CAP_NET_ADMIN) }
