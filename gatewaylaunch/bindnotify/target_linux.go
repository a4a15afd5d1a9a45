//go:build amd64 || arm64

package bindnotify

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"berth/netstate"
)

// errGone: the caller was killed or interrupted, so there is nobody to answer.
var errGone = errors.New("the caller is gone")

// target is the thread that waits in a trapped call, with its process.
type target struct {
	tid, pid int
	pidfd    int // -1 if there is none
	program  string
}

// openTarget takes hold of the caller. The question is still valid afterwards,
// so the thread id has not been given to anybody else meanwhile.
func openTarget(notify notifier, q *notification) (*target, error) {
	t := &target{tid: int(q.tid), pidfd: -1}
	if t.tid == 0 {
		return nil, errors.New("the caller is in another pid namespace")
	}
	t.readStatus()
	// A thread may have descriptors of its own, so the pidfd is the thread's
	// where the kernel has such (6.9), and the process's before.
	const pidfdThread = unix.O_EXCL
	fd, err := unix.PidfdOpen(t.tid, pidfdThread)
	if errors.Is(err, unix.EINVAL) {
		fd, err = unix.PidfdOpen(t.pid, 0)
	}
	if err == nil {
		t.pidfd = fd
	}
	if !notify.valid(q) {
		t.close()
		return nil, errGone
	}
	return t, nil
}

func (t *target) close() {
	if t.pidfd >= 0 {
		unix.Close(t.pidfd)
	}
}

func (t *target) proc(name string) string { return fmt.Sprintf("/proc/%d/%s", t.tid, name) }

// status returns a field of /proc/PID/status.
func (t *target) status(name string) string {
	data, err := os.ReadFile(t.proc("status"))
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(data)) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

func (t *target) readStatus() {
	t.pid = t.tid
	if pid, err := strconv.Atoi(t.status("Tgid")); err == nil {
		t.pid = pid
	}
	// The name of the process is that of its first thread.
	if name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", t.pid)); err == nil {
		t.program = strings.TrimSuffix(string(name), "\n")
	}
}

// address is what a bind asks for, with the bytes in which it does.
type address struct {
	family netstate.Family
	ip     netip.Addr // not unmapped, without its zone
	port   uint16
	scope  uint32
	raw    []byte
}

func (a address) addrPort() netip.AddrPort { return netip.AddrPortFrom(a.ip, a.port) }

// errFamily: the address is not one of TCP, so the call is none of ours.
var errFamily = errors.New("not an address of TCP")

// readAddress reads the address that a bind points to.
func (t *target) readAddress(q *notification) (address, error) {
	const most = 128 // sizeof(struct sockaddr_storage); the kernel refuses more
	size := int(int32(q.args[2]))
	if size < unix.SizeofSockaddrInet4 || size > most {
		return address{}, errFamily
	}
	raw := make([]byte, size)
	local := []unix.Iovec{{Base: &raw[0]}}
	local[0].SetLen(size)
	n, err := unix.ProcessVMReadv(t.tid, local, []unix.RemoteIovec{{Base: uintptr(q.args[1]), Len: size}}, 0)
	if err != nil {
		return address{}, os.NewSyscallError("process_vm_readv", err)
	}
	if n != size {
		return address{}, errFamily // a bad pointer, which the kernel is to refuse
	}
	return parseAddress(raw)
}

func parseAddress(raw []byte) (address, error) {
	a := address{raw: raw}
	if len(raw) < unix.SizeofSockaddrInet4 {
		return a, errFamily
	}
	a.port = binary.BigEndian.Uint16(raw[2:])
	switch binary.NativeEndian.Uint16(raw) {
	case unix.AF_INET:
		a.family, a.ip = netstate.INET, netip.AddrFrom4([4]byte(raw[4:8]))
	case unix.AF_INET6:
		if len(raw) < unix.SizeofSockaddrInet6 {
			return a, errFamily
		}
		a.family, a.ip = netstate.INET6, netip.AddrFrom16([16]byte(raw[8:24]))
		a.scope = binary.NativeEndian.Uint32(raw[24:])
	default:
		return a, errFamily
	}
	return a, nil
}

// socket duplicates the descriptor that the call is about.
func (t *target) socket(q *notification) (*socket, error) {
	if t.pidfd < 0 {
		return nil, os.NewSyscallError("pidfd_open", unix.ENOSYS)
	}
	fd, err := unix.PidfdGetfd(t.pidfd, int(int32(q.args[0])), 0)
	if err != nil {
		return nil, os.NewSyscallError("pidfd_getfd", err)
	}
	s, err := newSocket(fd)
	if err != nil {
		unix.Close(fd)
	}
	return s, err
}

// mayBind reports whether a bind to the port would be refused to the caller
// for want of a right that this process may have.
func (t *target) mayBind(s *socket, port uint16) bool {
	if port == 0 || port >= unprivilegedFrom() && s.netns == ownNetNS() {
		return true
	}
	const always = 1024
	if port >= always && s.netns != ownNetNS() {
		return true // unless somebody raised the limit there, which we do not see
	}
	// Rights of another user namespace are not those that count.
	own, err := os.Readlink("/proc/self/ns/user")
	if err != nil {
		return false
	}
	if theirs, err := os.Readlink(t.proc("ns/user")); err != nil || theirs != own {
		return false
	}
	caps, err := strconv.ParseUint(t.status("CapEff"), 16, 64)
	return err == nil && caps&(1<<unix.CAP_NET_BIND_SERVICE) != 0
}

func unprivilegedFrom() uint16 {
	const usual = 1024
	data, err := os.ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start")
	if err != nil {
		return usual
	}
	n, err := strconv.ParseUint(string(bytes.TrimSpace(data)), 10, 16)
	if err != nil {
		return usual
	}
	return uint16(n)
}

// closesOnExec tells a flag that belongs to the descriptor and not to the
// socket, so that its duplicate does not have it.
func (t *target) closesOnExec(fd int) bool {
	data, err := os.ReadFile(t.proc("fdinfo/" + strconv.Itoa(fd)))
	if err != nil {
		return true
	}
	for line := range strings.Lines(string(data)) {
		if value, ok := strings.CutPrefix(line, "flags:"); ok {
			flags, err := strconv.ParseUint(strings.TrimSpace(value), 8, 64)
			return err != nil || flags&unix.O_CLOEXEC != 0
		}
	}
	return true
}

// watches reports whether an epoll set of the caller has the descriptor in
// it. The set knows the socket and not the number, so it would not notice
// that another socket has come in its place.
func (t *target) watches(fd int) bool {
	links, err := os.ReadDir(t.proc("fd"))
	if err != nil {
		return true // what cannot be told is taken for the worse
	}
	for _, l := range links {
		to, err := os.Readlink(filepath.Join(t.proc("fd"), l.Name()))
		if err != nil || to != "anon_inode:[eventpoll]" {
			continue
		}
		data, err := os.ReadFile(t.proc("fdinfo/" + l.Name()))
		if err != nil {
			continue // it was closed
		}
		for lines := bufio.NewScanner(bytes.NewReader(data)); lines.Scan(); {
			fields := strings.Fields(lines.Text())
			if len(fields) > 1 && fields[0] == "tfd:" && fields[1] == strconv.Itoa(fd) {
				return true
			}
		}
	}
	return false
}
