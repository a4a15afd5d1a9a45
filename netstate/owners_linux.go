package netstate

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// walker finds the processes behind socket inodes by reading every
// descriptor that it may read, with reused buffers: /proc has no index.
type walker struct {
	dirs  []byte // directory entries of /proc
	fds   []byte // directory entries of one /proc/PID/fd
	link  [64]byte
	found map[int]map[uint64]int // pid → inode → lowest descriptor
}

func walkOwners(ctx context.Context, sockets []Socket) (*Owners, error) {
	wanted := make(map[uint64]bool, len(sockets))
	for i := range sockets {
		if ino := sockets[i].Inode; ino != 0 {
			wanted[ino] = true
		}
	}
	owners := NewOwners()
	if len(wanted) == 0 {
		return owners, nil
	}
	w := &walker{dirs: make([]byte, bufferSize), fds: make([]byte, bufferSize), found: map[int]map[uint64]int{}}
	if err := w.walk(ctx, wanted); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			// No /proc: the sockets are still true, their holders unknown.
			owners.Hidden = len(wanted)
			return owners, nil
		}
		return nil, &OpError{Op: "find the processes of sockets", Err: err}
	}
	seen := make(map[uint64]bool, len(wanted))
	for pid, inodes := range w.found {
		h, err := processFacts(ctx, pid)
		if err != nil {
			continue // it ended meanwhile, and its sockets with it
		}
		for ino, fd := range inodes {
			// The pid may have become another process between the walk and
			// the facts; then it does not hold the socket.
			if !w.holds(pid, fd, ino) {
				continue
			}
			h.FD = fd
			owners.Add(ino, h)
			seen[ino] = true
		}
	}
	owners.sort()
	owners.Hidden = len(wanted) - len(seen)
	return owners, nil
}

const bufferSize = 32 << 10

func (w *walker) walk(ctx context.Context, wanted map[uint64]bool) error {
	proc, err := unix.Open("/proc", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("open /proc", err)
	}
	defer unix.Close(proc)
	// Since Linux 6.2 the size of the directory is the number of descriptors, so
	// that kernel threads, most of the processes of a small system, need not be
	// opened. Before, it is 0 for all, as this process's own shows.
	var st unix.Stat_t
	sized := unix.Fstatat(proc, "self/fd", &st, 0) == nil && st.Size > 0
	return entries(proc, w.dirs, func(name []byte) error {
		pid, ok := digits(name)
		if !ok {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		dir := string(name) + "/fd"
		if sized && unix.Fstatat(proc, dir, &st, 0) == nil && st.Size == 0 {
			return nil
		}
		fds, err := unix.Openat(proc, dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil // another user's, or gone
		}
		defer unix.Close(fds)
		// An error here means that the process ended while it was read.
		_ = entries(fds, w.fds, func(name []byte) error {
			fd, ok := digits(name)
			if !ok {
				return nil
			}
			if ino, ok := socketInode(w.readlink(fds, name)); ok && wanted[ino] {
				if w.found[int(pid)] == nil {
					w.found[int(pid)] = map[uint64]int{}
				}
				if lowest, again := w.found[int(pid)][ino]; !again || int(fd) < lowest {
					w.found[int(pid)][ino] = int(fd)
				}
			}
			return nil
		})
		return nil
	})
}

// holds reads one descriptor of a process again.
func (w *walker) holds(pid, fd int, inode uint64) bool {
	n, err := unix.Readlink(fmt.Sprintf("/proc/%d/fd/%d", pid, fd), w.link[:])
	if err != nil {
		return false
	}
	ino, ok := socketInode(w.link[:n])
	return ok && ino == inode
}

func (w *walker) readlink(dir int, name []byte) []byte {
	n, err := unix.Readlinkat(dir, unix.ByteSliceToString(name), w.link[:])
	if err != nil {
		return nil
	}
	return w.link[:n]
}

// entries calls visit with the name of each entry of an open directory. The
// standard library's reader allocates for each entry, which is most of the
// cost of a walk over every descriptor of the system.
func entries(dir int, buf []byte, visit func(name []byte) error) error {
	// The layout of struct linux_dirent64: ino, off, reclen, type, name.
	const offReclen, offName = 16, 19
	for {
		n, err := unix.Getdents(dir, buf)
		if err != nil {
			return os.NewSyscallError("getdents64", err)
		}
		if n == 0 {
			return nil
		}
		for b := buf[:n]; len(b) > offName; {
			size := int(binary.NativeEndian.Uint16(b[offReclen:]))
			if size <= offName || size > len(b) {
				break
			}
			name := b[offName:size]
			for i, c := range name {
				if c == 0 {
					name = name[:i]
					break
				}
			}
			if err := visit(name); err != nil {
				return err
			}
			b = b[size:]
		}
	}
}

// digits reads a decimal number that fills the whole name.
func digits(name []byte) (uint64, bool) {
	if len(name) == 0 || len(name) > 19 {
		return 0, false
	}
	var n uint64
	for _, c := range name {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + uint64(c-'0')
	}
	return n, true
}

// socketInode reads "socket:[123]".
func socketInode(link []byte) (uint64, bool) {
	const prefix = "socket:["
	if len(link) < len(prefix)+2 || string(link[:len(prefix)]) != prefix || link[len(link)-1] != ']' {
		return 0, false
	}
	return digits(link[len(prefix) : len(link)-1])
}
