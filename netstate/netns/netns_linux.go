package netns

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// maxPID is the largest process number of any kernel (PID_MAX_LIMIT). A larger
// number can only be a namespace's.
const maxPID = 1 << 22

// Do calls do on a thread inside the namespace and returns its error, or an
// *Error that matches fs.ErrPermission without CAP_SYS_ADMIN, and
// fs.ErrNotExist if the namespace is gone. What do starts in other goroutines
// runs outside. Do may be nested.
func (n Namespace) Do(do func() error) error {
	if n.Own() {
		return do()
	}
	var err error
	onThread(func() (unchanged bool) {
		unchanged, err = n.visit(do)
		return unchanged
	})
	return err
}

// visit moves the calling thread into the namespace and back, and reports
// whether it is where it was.
func (n Namespace) visit(do func() error) (unchanged bool, err error) {
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return true, n.fail(err)
	}
	defer home.Close()
	target, err := n.open()
	if err != nil {
		return true, n.fail(err)
	}
	if target != n.kept {
		defer target.Close()
	}
	if err := unix.Setns(int(target.Fd()), unix.CLONE_NEWNET); err != nil {
		return true, n.fail(os.NewSyscallError("setns", err))
	}
	err = do()
	return unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil, err
}

// onThread calls do on a thread that nothing else uses meanwhile, and waits for
// it. A thread that do has changed for good ends with it.
func onThread(do func() (unchanged bool)) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			// The first thread stands for the whole process in /proc, where
			// every other goroutine would then see the other namespace's
			// files. While it is locked here, the next goroutine gets another.
			defer runtime.UnlockOSThread()
			onThread(do)
			return
		}
		if do() {
			runtime.UnlockOSThread()
		}
	}()
	<-done
}

// Keep returns the namespace with a hold on it, so that it can be entered even
// after the process is gone by which it was known, which is what stopping the
// only server of a container does. Release lets go of it. The zero value needs
// no hold. The errors are those of Do.
func (n Namespace) Keep() (Namespace, error) {
	if n.Own() {
		return n, nil
	}
	f, err := n.open()
	if err != nil {
		return n, n.fail(err)
	}
	if f == n.kept {
		// Each hold is let go of by itself.
		fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return n, n.fail(os.NewSyscallError("fcntl F_DUPFD_CLOEXEC", err))
		}
		f = os.NewFile(uintptr(fd), f.Name())
	}
	n.kept = f
	return n, nil
}

// Release lets go of what Keep holds. Without further processes and sockets the
// namespace then ends.
func (n Namespace) Release() {
	if n.kept != nil {
		n.kept.Close()
	}
}

// New makes a network namespace and calls setup inside it. It is kept until it
// is released. It takes CAP_SYS_ADMIN.
func New(setup func() error) (n Namespace, err error) {
	onThread(func() (unchanged bool) {
		if err = os.NewSyscallError("unshare", unix.Unshare(unix.CLONE_NEWNET)); err != nil {
			return true
		}
		if err = setup(); err == nil {
			n.kept, err = os.Open("/proc/thread-self/ns/net")
		}
		return false
	})
	if err != nil {
		return Namespace{}, err
	}
	n.Path = fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), n.kept.Fd())
	n.ID, err = identify(int(n.kept.Fd()))
	return n, err
}

func (n Namespace) fail(err error) error {
	e := &Error{Op: "enter", Name: n.String(), Err: err}
	if errors.Is(err, fs.ErrPermission) {
		e.Hint = "run berth as root"
		if n.PID != 0 && ownedByMe(n.PID) {
			// A rootless container: its user may, in its user namespace, which
			// a program with threads cannot enter by itself.
			e.Hint += fmt.Sprintf(", or inside it: nsenter -t %d -U --preserve-credentials -n berth", n.PID)
		}
	}
	return e
}

func ownedByMe(pid int) bool {
	var st unix.Stat_t
	return unix.Stat("/proc/"+strconv.Itoa(pid), &st) == nil && int(st.Uid) == os.Geteuid()
}

// open opens the namespace and makes sure that it is this one: a process
// number may have passed on to a process elsewhere.
func (n Namespace) open() (*os.File, error) {
	if n.kept != nil {
		return n.kept, nil
	}
	f, err := os.Open(n.Path)
	if err == nil {
		id, idErr := identify(int(f.Fd()))
		if idErr == nil && id == n.ID {
			return f, nil
		}
		f.Close()
		err = cmp.Or(idErr, fs.ErrNotExist)
	}
	if errors.Is(err, fs.ErrPermission) {
		return nil, err
	}
	// Its process ended, or its name was taken away; others may live in it.
	all, listErr := List(context.Background())
	if listErr != nil {
		return nil, err
	}
	for _, other := range all {
		if other.ID == n.ID && other.Path != n.Path {
			return os.Open(other.Path)
		}
	}
	return nil, err
}

// identify returns the inode of an open namespace, and fs.ErrInvalid if it is
// some other file.
func identify(fd int) (uint64, error) {
	var sys unix.Statfs_t
	var st unix.Stat_t
	if err := errors.Join(unix.Fstatfs(fd, &sys), unix.Fstat(fd, &st)); err != nil {
		return 0, err
	}
	if sys.Type != unix.NSFS_MAGIC {
		return 0, fmt.Errorf("%w: the file is no namespace", fs.ErrInvalid)
	}
	if kind, err := unix.IoctlRetInt(fd, unix.NS_GET_NSTYPE); err != nil || kind != unix.CLONE_NEWNET {
		return 0, fmt.Errorf("%w: the file is a namespace of another kind", fs.ErrInvalid)
	}
	return st.Ino, nil
}

func identifyPath(path string) (uint64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	return identify(int(f.Fd()))
}

// own is the namespace of this process, whatever thread asks.
func own() (uint64, error) { return linked("/proc/self/ns/net") }

// linked reads "net:[4026531840]" without opening the file.
func linked(path string) (uint64, error) {
	link, err := os.Readlink(path)
	if err != nil {
		return 0, err
	}
	digits, ok := strings.CutPrefix(link, "net:[")
	if !ok {
		return 0, fs.ErrInvalid
	}
	return strconv.ParseUint(strings.TrimSuffix(digits, "]"), 10, 64)
}

// List returns every network namespace but the process's own that a process
// lives in or that is mounted by name, as far as this user may see them,
// sorted by name and then by number. Those of processes get no name.
func List(ctx context.Context) ([]Namespace, error) {
	mine, err := own()
	if err != nil {
		return nil, &Error{Op: "list", Name: "all", Err: err, Hint: "mount /proc"}
	}
	byID := map[uint64]*Namespace{}
	for _, pid := range processes() {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		path := fmt.Sprintf("/proc/%d/ns/net", pid)
		id, err := linked(path)
		if err != nil || id == mine {
			continue // another user's, gone, or no other namespace
		}
		if byID[id] == nil {
			byID[id] = &Namespace{ID: id, Path: path, PID: pid}
		}
	}
	for _, dir := range namedDirs {
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue // nobody has named one, or it may not be seen
		}
		for _, e := range entries {
			path := filepath.Join(dir, e.Name())
			id, err := identifyPath(path)
			if err != nil || id == mine {
				continue
			}
			n := byID[id]
			if n == nil {
				n = &Namespace{ID: id}
				byID[id] = n
			}
			if n.Name == "" {
				// The mount outlives the process, so it is the better path.
				n.Name, n.Path = e.Name(), path
			}
		}
	}
	all := make([]Namespace, 0, len(byID))
	for _, n := range byID {
		all = append(all, *n)
	}
	slices.SortFunc(all, func(a, b Namespace) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID))
	})
	return all, nil
}

// processes returns the numbers of all processes, lowest first.
func processes() []int {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(-1) // what could be read will do
	pids := make([]int, 0, len(names))
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids
}

// Find returns the namespace that a person means: that of a process by its
// number, one by its own number, by its name in ip-netns(8), or by the path
// of a file that is one. The process's own is returned as the zero value. The
// error matches ErrUnknown if there is none, and fs.ErrPermission if it may
// not be seen.
func Find(ctx context.Context, name string) (Namespace, error) {
	mine, err := own()
	if err != nil {
		return Namespace{}, &Error{Op: "find", Name: name, Err: err, Hint: "mount /proc"}
	}
	n := Namespace{Name: name}
	switch number, notNumber := strconv.ParseUint(name, 10, 64); {
	case notNumber == nil && number <= maxPID:
		n.PID, n.Name = int(number), "pid "+name
		n.Path = fmt.Sprintf("/proc/%d/ns/net", number)
		n.ID, err = linked(n.Path)
	case notNumber == nil:
		return findNumber(ctx, number, mine)
	case strings.Contains(name, "/"):
		n.Path = name
		n.ID, err = identifyPath(name)
	default:
		err = fs.ErrNotExist
		for _, dir := range namedDirs {
			n.Path = filepath.Join(dir, name)
			if n.ID, err = identifyPath(n.Path); !errors.Is(err, fs.ErrNotExist) {
				break
			}
		}
	}
	switch {
	case errors.Is(err, fs.ErrPermission):
		return Namespace{}, &Error{Op: "find", Name: name, Err: err, Hint: "run berth as root"}
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ESRCH):
		return Namespace{}, &Error{Op: "find", Name: name, Err: ErrUnknown}
	case err != nil:
		return Namespace{}, &Error{Op: "find", Name: name, Err: err}
	case n.ID == mine:
		return Namespace{}, nil
	}
	return n, nil
}

func findNumber(ctx context.Context, id, mine uint64) (Namespace, error) {
	if id == mine {
		return Namespace{}, nil
	}
	all, err := List(ctx)
	if err != nil {
		return Namespace{}, err
	}
	for _, n := range all {
		if n.ID == id {
			return n, nil
		}
	}
	return Namespace{}, &Error{Op: "find", Name: strconv.FormatUint(id, 10), Err: ErrUnknown}
}
