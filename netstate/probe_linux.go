package netstate

import (
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

func newSocket(family int, protocol Protocol) (int, error) {
	if protocol == UDP {
		return unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.IPPROTO_UDP)
	}
	return unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
}

func bindToDevice(fd int, index uint32) error {
	ifi, err := net.InterfaceByIndex(int(index))
	if err != nil {
		return unix.ENODEV
	}
	return unix.BindToDevice(fd, ifi.Name)
}

// ReadyBind is a probe of which only the last call is left to be made, for
// where microseconds count. It does not have the port before.
type ReadyBind struct {
	spec BindSpec
	fd   int // -1 when it is closed
	to   unix.Sockaddr
}

// PrepareBind makes the socket of a probe. It fails for a spec of another user,
// whose bind takes a thread of its own.
func PrepareBind(spec BindSpec) (*ReadyBind, error) {
	if spec.UID != currentUID() {
		return nil, cannotBindAs(spec.UID, errors.ErrUnsupported)
	}
	b := &ReadyBind{spec: spec, fd: -1}
	family := unix.AF_INET
	if spec.Family == INET6 {
		family = unix.AF_INET6
	}
	// A socket stays in the namespace that it was made in.
	err := spec.NetNS.Do(func() (err error) {
		if b.fd, err = newSocket(family, spec.Protocol); err != nil {
			return os.NewSyscallError("socket", err)
		}
		b.to, err = prepare(b.fd, spec)
		return err
	})
	if err != nil {
		b.Close()
		return nil, err
	}
	return b, nil
}

// Try makes the bind and gives the port back at once. It can be called once,
// and then closes the probe. The time that it tells is that of the bind alone.
func (b *ReadyBind) Try() Probe {
	start := time.Now()
	err := unix.Bind(b.fd, b.to)
	took := time.Since(start)
	b.Close()
	return Probe{Spec: b.spec, At: start, Took: took, Err: os.NewSyscallError("bind", err)}
}

// Close gives the socket back. A second one does nothing.
func (b *ReadyBind) Close() {
	if b.fd >= 0 {
		unix.Close(b.fd)
		b.fd = -1
	}
}

// asBinder calls do as the one who makes the bind: in the spec's network
// namespace and as its user.
func asBinder(spec BindSpec, do func() error) error {
	if spec.UID == currentUID() {
		return spec.NetNS.Do(do)
	}
	if spec.UID == 0 {
		// An fsuid of 0 brings no capability, so a low port would be refused
		// to root.
		return cannotBindAs(spec.UID, unix.EPERM)
	}
	// A goroutine of its own: if its thread cannot be brought back, the thread
	// ends with it.
	done := make(chan error, 1)
	go func() { done <- spec.NetNS.Do(func() error { return asUser(spec.UID, do) }) }()
	return <-done
}

// asUser calls do on a thread that is, to the socket calls, a process of the
// user uid. A socket belongs to the fsuid of the thread that made it, and a
// low port needs CAP_NET_BIND_SERVICE in the thread's effective set, which a
// server of an ordinary user does not have; both belong to one thread, so no
// other part of the program notices. It is called last in a goroutine.
func asUser(uid uint32, do func() error) error {
	runtime.LockOSThread()
	back, err := becomeUser(uid)
	if err == nil {
		err = do()
	}
	if back() {
		runtime.UnlockOSThread()
	}
	return err
}

// becomeUser changes the calling thread. back undoes it and reports whether
// the thread is as it was.
func becomeUser(uid uint32) (back func() bool, err error) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var caps [2]unix.CapUserData
	if err := unix.Capget(&header, &caps[0]); err != nil {
		return func() bool { return true }, cannotBindAs(uid, err)
	}
	fsuid := currentFSUID()
	dumpable, _ := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	back = func() bool {
		// The fsuid first, since its change changes capabilities. Neither
		// step needs a right: the user is the thread's own, and nothing was
		// taken out of the permitted set.
		_, _ = unix.SetfsuidRetUid(fsuid)
		err := unix.Capset(&header, &caps[0])
		if dumpable == 1 {
			// A thread that changes its user makes the whole process
			// undumpable, which hides it from its own user's other tools.
			err = errors.Join(err, unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0))
		}
		return err == nil && currentFSUID() == fsuid
	}

	_, _ = unix.SetfsuidRetUid(int(uid)) // it returns no error, so the result is asked for
	if currentFSUID() != int(uid) {
		if caps[unix.CAP_SETUID/32].Effective&(1<<(unix.CAP_SETUID%32)) == 0 {
			return back, cannotBindAs(uid, unix.EPERM)
		}
		return back, cannotBindAs(uid, unix.EINVAL) // not mapped in this user namespace
	}
	none := caps
	none[0].Effective, none[1].Effective = 0, 0
	if err := unix.Capset(&header, &none[0]); err != nil {
		return back, cannotBindAs(uid, err)
	}
	return back, nil
}

// currentFSUID is the fsuid of the calling thread, by a change to a user that
// cannot exist.
func currentFSUID() int {
	uid, _ := unix.SetfsuidRetUid(-1)
	return uid
}

func cannotBindAs(uid uint32, err error) error {
	e := &OpError{Op: fmt.Sprintf("bind as uid %d", uid), Err: err}
	if errors.Is(err, unix.EPERM) {
		e.Hint = "run berth as root, or as that user"
	}
	return e
}

// UserRuns reports whether any process that can be seen runs as that user.
func UserRuns(uid uint32) bool {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return false
	}
	for _, e := range entries {
		if _, err := strconv.Atoi(e.Name()); err != nil {
			continue
		}
		// The directory of a process belongs to its effective user.
		var st unix.Stat_t
		if unix.Stat("/proc/"+e.Name(), &st) == nil && st.Uid == uid {
			return true
		}
	}
	return false
}
