package netstate

import (
	"bytes"
	"errors"
	"strconv"

	"golang.org/x/sys/unix"
)

// sockstat reads how many TCP sockets there are, which costs a hundredth of
// listing them: the kernel keeps count.
type sockstat struct {
	files []int // /proc/net/sockstat and sockstat6 of one network namespace
}

// openSockstat opens the counters of the thread's network namespace. It is nil
// where they cannot be read.
func openSockstat() *sockstat {
	s := &sockstat{}
	for _, name := range []string{"sockstat", "sockstat6"} {
		fd, err := unix.Open("/proc/thread-self/net/"+name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil && (len(s.files) == 0 || !errors.Is(err, unix.ENOENT)) {
			s.close()
			return nil
		}
		if err == nil { // a kernel without IPv6 has the first file only
			s.files = append(s.files, fd)
		}
	}
	return s
}

func (s *sockstat) close() {
	if s != nil {
		for _, fd := range s.files {
			unix.Close(fd)
		}
		s.files = nil
	}
}

// only reports whether the namespace certainly has no other TCP sockets than
// those n, which are hashed by the kernel: that many are counted, none waits in
// TIME-WAIT, and the whole machine has no more than them, so that none is bound
// and not hashed either. A request (SYN-RECV) is not counted. False means
// nothing.
func (s *sockstat) only(n int) bool {
	if s == nil || len(s.files) == 0 {
		return false
	}
	hashed := 0
	var buf [1024]byte
	for i, fd := range s.files {
		size, err := unix.Pread(fd, buf[:], 0)
		if err != nil {
			return false
		}
		line, ok := sockstatLine(buf[:size], [2]string{"TCP:", "TCP6:"}[i])
		if !ok {
			return false
		}
		hashed += line["inuse"]
		if i == 0 && (line["tw"] != 0 || line["alloc"] != n) {
			return false
		}
	}
	return hashed == n
}

// sockstatLine reads the line of a protocol: "TCP: inuse 2 orphan 0 tw 0 …".
func sockstatLine(text []byte, protocol string) (map[string]int, bool) {
	for line := range bytes.Lines(text) {
		words := bytes.Fields(line)
		if len(words) == 0 || string(words[0]) != protocol {
			continue
		}
		values := make(map[string]int, len(words)/2)
		for i := 1; i+1 < len(words); i += 2 {
			n, err := strconv.Atoi(string(words[i+1]))
			if err != nil {
				return nil, false
			}
			values[string(words[i])] = n
		}
		return values, true
	}
	return nil, false
}
