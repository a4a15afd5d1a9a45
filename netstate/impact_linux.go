package netstate

import (
	"bytes"
	"context"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// readProcessTable reads /proc/PID/stat of every process.
func readProcessTable(ctx context.Context) (*processTable, error) {
	t := &processTable{processes: map[int]tableEntry{}}
	proc, err := unix.Open("/proc", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &OpError{Op: "read the process table", Err: os.NewSyscallError("open /proc", err)}
	}
	defer unix.Close(proc)
	err = entries(proc, make([]byte, bufferSize), func(name []byte) error {
		pid, ok := digits(name)
		if !ok {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		b, err := readProc(int(pid), "stat")
		if err != nil {
			return nil // it ended meanwhile
		}
		if e, ok := parseTableEntry(b); ok {
			t.processes[int(pid)] = e
		}
		return nil
	})
	if err != nil {
		return nil, &OpError{Op: "read the process table", Err: err}
	}
	// Whether processes are hidden shows in the first, which is another
	// user's except for root and in a namespace of one's own.
	_, t.complete = t.processes[1]
	return t, nil
}

// parseTableEntry reads fields 2 to 6 and 22 of proc_pid_stat(5).
func parseTableEntry(b []byte) (e tableEntry, ok bool) {
	open, end := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if open < 0 || end < open {
		return e, false
	}
	stat, err := parseStat(b)
	fields := bytes.Fields(b[end+1:])
	if err != nil || len(fields) < 4 {
		return e, false
	}
	e = tableEntry{name: string(b[open+1 : end]), parent: stat.parent, start: stat.start}
	e.zombie = fields[0][0] == 'Z' || fields[0][0] == 'X'
	for i, number := range []*int{&e.group, &e.session} {
		if *number, err = strconv.Atoi(string(fields[2+i])); err != nil {
			return e, false
		}
	}
	return e, true
}

// maxDescriptors bounds the look at one process's descriptors. A server with
// more has them for its clients.
const maxDescriptors = 10_000

// filesWritten lists the regular files that a process has open for writing.
// The mode of a link in /proc/PID/fd is that of the descriptor
// (tid_fd_update_inode in fs/proc/fd.c), which costs less than to read its
// flags from fdinfo.
func filesWritten(pid int) Sample[string] {
	dir, err := unix.Open("/proc/"+strconv.Itoa(pid)+"/fd", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return Sample[string]{} // another user's, or ended
	}
	defer unix.Close(dir)
	s := Sample[string]{Known: true}
	seen := map[string]bool{}
	looked := 0
	link := make([]byte, unix.PathMax)
	err = entries(dir, make([]byte, bufferSize), func(name []byte) error {
		if _, ok := digits(name); !ok {
			return nil
		}
		if looked++; looked > maxDescriptors {
			s.AtLeast = true
			return unix.EOVERFLOW
		}
		var st unix.Stat_t
		fd := unix.ByteSliceToString(name)
		if err := unix.Fstatat(dir, fd, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil || st.Mode&unix.S_IWUSR == 0 {
			return nil
		}
		n, err := unix.Readlinkat(dir, fd, link)
		if err != nil || n == 0 || link[0] != '/' {
			return nil // a socket, a pipe, an eventfd …
		}
		path := string(link[:n])
		if seen[path] || strings.HasSuffix(path, " (deleted)") {
			return nil // nobody else can find what is written there
		}
		// The server of a network file system need not be asked for the type.
		var stx unix.Statx_t
		if err := unix.Statx(dir, fd, unix.AT_STATX_DONT_SYNC, unix.STATX_TYPE, &stx); err != nil || stx.Mode&unix.S_IFMT != unix.S_IFREG {
			return nil
		}
		seen[path] = true
		s.add(path, maxFiles)
		return nil
	})
	if err != nil && !s.AtLeast {
		return Sample[string]{} // it ended meanwhile
	}
	return s
}
