package netstate

import (
	"net"

	"golang.org/x/sys/unix"
)

func newSocket(family int) (int, error) {
	return unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
}

func bindToDevice(fd int, index uint32) error {
	ifi, err := net.InterfaceByIndex(int(index))
	if err != nil {
		return unix.ENODEV
	}
	return unix.BindToDevice(fd, ifi.Name)
}
