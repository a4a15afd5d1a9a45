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

// tcpCounts is how many TCP sockets there are. A request (SYN-RECV) is not
// counted.
type tcpCounts struct {
	hashed    int // of this network namespace: they listen, or have a peer
	timed     int // minisockets of this namespace: TIME-WAIT
	allocated int // of the whole machine, without minisockets
}

// noneBound reports whether the namespace certainly has no socket that is bound
// and neither listens nor has a peer: every socket of the machine is one of the
// others. False means nothing.
func (s *sockstat) noneBound() bool {
	c, ok := s.read()
	return ok && c.allocated == c.hashed
}

// only reports whether the namespace certainly has no other sockets than n that
// listen or have a peer. False means nothing.
func (s *sockstat) only(n int) bool {
	c, ok := s.read()
	return ok && c.hashed == n && c.timed == 0 && c.allocated == n
}

// read returns the counts of one moment, or false if they cannot be read.
func (s *sockstat) read() (c tcpCounts, ok bool) {
	if s == nil {
		return c, false
	}
	var buf [1024]byte
	for i, fd := range s.files {
		n, err := unix.Pread(fd, buf[:], 0)
		if err != nil {
			return c, false
		}
		line, ok := sockstatLine(buf[:n], [2]string{"TCP:", "TCP6:"}[i])
		if !ok {
			return c, false
		}
		c.hashed += line["inuse"]
		if i == 0 {
			c.timed, c.allocated = line["tw"], line["alloc"]
		}
	}
	return c, len(s.files) > 0
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
