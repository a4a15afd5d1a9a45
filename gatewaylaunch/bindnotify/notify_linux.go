//go:build amd64 || arm64

package bindnotify

import (
	"errors"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// notification is struct seccomp_notif of include/uapi/linux/seccomp.h.
type notification struct {
	id    uint64
	tid   uint32 // a thread's, in this process's pid namespace; 0 if it is not in it
	flags uint32
	nr    int32 // from here on struct seccomp_data
	arch  uint32
	ip    uint64
	args  [6]uint64
}

// response is struct seccomp_notif_resp.
type response struct {
	id    uint64
	val   int64
	errno int32
	flags uint32
}

// newDescriptor is struct seccomp_notif_addfd.
type newDescriptor struct {
	id       uint64
	flags    uint32
	srcfd    uint32
	newfd    uint32
	newflags uint32
}

const notificationSize = int(unsafe.Sizeof(notification{}))

func (n *notification) bytes() []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(n)), notificationSize)
}

// answer is what a trapped call returns: an errno, 0 for success, or the
// result of the call itself, which the program then makes.
type answer struct {
	errno unix.Errno
	pass  bool
}

var passed = answer{pass: true}

// notifier is the descriptor by which the kernel asks.
type notifier struct{ fd int }

func (f notifier) ioctl(request uintptr, arg unsafe.Pointer) error {
	for {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(f.fd), request, uintptr(arg))
		switch errno {
		case 0:
			return nil
		case unix.EINTR:
			continue
		}
		return errno
	}
}

// receive returns a question that was announced by poll, or nil if its caller
// was interrupted or killed since.
func (f notifier) receive() (*notification, error) {
	n := &notification{} // the kernel wants it to be zero
	err := f.ioctl(unix.SECCOMP_IOCTL_NOTIF_RECV, unsafe.Pointer(n))
	if errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	return n, os.NewSyscallError("ioctl SECCOMP_IOCTL_NOTIF_RECV", err)
}

// valid reports whether the caller still waits. What was read about it by its
// thread id before is then about this caller and no later one.
func (f notifier) valid(n *notification) bool {
	id := n.id
	return f.ioctl(unix.SECCOMP_IOCTL_NOTIF_ID_VALID, unsafe.Pointer(&id)) == nil
}

// reply reports whether the caller was still there to get it.
func (f notifier) reply(n *notification, a answer) bool {
	r := response{id: n.id, errno: -int32(a.errno)}
	if a.pass {
		r.errno, r.flags = 0, unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE
	}
	return f.ioctl(unix.SECCOMP_IOCTL_NOTIF_SEND, unsafe.Pointer(&r)) == nil
}

// give replaces the caller's descriptor by a duplicate of src.
func (f notifier) give(n *notification, src, descriptor int, cloexec bool) error {
	d := newDescriptor{id: n.id, flags: unix.SECCOMP_ADDFD_FLAG_SETFD, srcfd: uint32(src), newfd: uint32(descriptor)}
	if cloexec {
		d.newflags = unix.O_CLOEXEC
	}
	return os.NewSyscallError("ioctl SECCOMP_IOCTL_NOTIF_ADDFD", f.ioctl(unix.SECCOMP_IOCTL_NOTIF_ADDFD, unsafe.Pointer(&d)))
}

// The numbers are in include/uapi/linux/bpf_common.h and seccomp.h: the
// offsets of struct seccomp_data, and the two architectures whose calls are
// trapped. A call of another one, such as a 32-bit program's, passes by, and so
// does an x32 call, whose number has a bit more.
const (
	offsetNR   = 0
	offsetArch = 4
)

func program() []unix.SockFilter {
	const notify, allow = unix.SECCOMP_RET_USER_NOTIF, unix.SECCOMP_RET_ALLOW
	load := func(offset uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
	}
	equal := func(k uint32, yes, no uint8) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jt: yes, Jf: no, K: k}
	}
	result := func(k uint32) unix.SockFilter { return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: k} }
	return []unix.SockFilter{
		load(offsetArch),
		equal(auditArch, 0, 3),
		load(offsetNR),
		equal(unix.SYS_BIND, 2, 0),
		equal(unix.SYS_LISTEN, 1, 0),
		result(allow),
		result(notify),
	}
}

// install puts the filter on this thread and returns the descriptor by which
// the kernel asks. no_new_privs is set only if the kernel insists, and the last
// flags are left out where they are not known: without the one a signal
// interrupts a call that waits, without the other programs run with a
// mitigation that they do not need.
func install() (fd int, noNewPrivs bool, err error) {
	filter := program()
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	flags := []uintptr{
		unix.SECCOMP_FILTER_FLAG_NEW_LISTENER | unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW | unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV,
		unix.SECCOMP_FILTER_FLAG_NEW_LISTENER | unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW,
	}
	for {
		r, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags[0], uintptr(unsafe.Pointer(&prog)))
		switch {
		case errno == 0:
			return int(r), noNewPrivs, nil
		case errno == unix.EINVAL && len(flags) > 1:
			flags = flags[1:]
		case errno == unix.EACCES && !noNewPrivs:
			if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
				return -1, false, err
			}
			noNewPrivs = true
		default:
			return -1, noNewPrivs, errno
		}
	}
}
