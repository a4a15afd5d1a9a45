package sockflags

import (
	"bytes"
	"encoding/binary"
	"os"
	"runtime"
	"unsafe"

	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"
)

// The three calls of bpf(2) that an iterator takes. Each struct is the head of
// union bpf_attr (include/uapi/linux/bpf.h), as long as the call needs it.

type progLoad struct {
	progType           uint32
	count              uint32
	instructions       uint64 // a pointer, as in every struct of the kernel's
	license            uint64
	logLevel, logSize  uint32
	logBuf             uint64
	kernVersion        uint32
	flags              uint32
	name               [16]byte
	ifindex            uint32
	expectedAttachType uint32
	btfFD              uint32
	funcInfoSize       uint32
	funcInfo           uint64
	funcInfoCount      uint32
	lineInfoSize       uint32
	lineInfo           uint64
	lineInfoCount      uint32
	attachBTFID        typeID
	attachFD           uint32
	_                  uint32
}

type linkCreate struct {
	progFD, targetFD, attachType, flags uint32
	iterInfo                            uint64
	iterInfoLen                         uint32
	_                                   uint32
}

type iterCreate struct{ linkFD, flags uint32 }

// tries is how often a call is made that a signal interrupts: the kernel's
// check of a program gives up for one.
const tries = 30

func bpf[T any](cmd uintptr, attr *T) (int, error) {
	for try := 1; ; try++ {
		fd, _, errno := unix.Syscall(unix.SYS_BPF, cmd, uintptr(unsafe.Pointer(attr)), unsafe.Sizeof(*attr))
		switch {
		case errno == 0:
			return int(fd), nil
		case try < tries && (errno == unix.EINTR || errno == unix.EAGAIN):
			continue
		}
		return -1, os.NewSyscallError("bpf", errno)
	}
}

// load gives the program to the kernel, which checks it.
func load(is asm.Instructions, target typeID) (int, error) {
	var code bytes.Buffer
	var order binary.ByteOrder = binary.BigEndian
	if littleEndian() {
		order = binary.LittleEndian
	}
	if err := is.Marshal(&code, order); err != nil {
		return -1, err
	}
	license := []byte("GPL\x00")
	// The kernel reads both through plain numbers, which keep nothing alive.
	var pinned runtime.Pinner
	defer pinned.Unpin()
	address := func(b []byte) uint64 {
		p := unsafe.SliceData(b)
		pinned.Pin(p)
		return uint64(uintptr(unsafe.Pointer(p)))
	}
	attr := progLoad{
		progType:           unix.BPF_PROG_TYPE_TRACING,
		count:              uint32(code.Len() / asm.InstructionSize),
		instructions:       address(code.Bytes()),
		license:            address(license),
		expectedAttachType: unix.BPF_TRACE_ITER,
		attachBTFID:        target,
	}
	copy(attr.name[:], "berth_flags")
	return bpf(unix.BPF_PROG_LOAD, &attr)
}

// attach makes an iterator of a program, which can be opened any number of
// times.
func attach(prog int) (int, error) {
	return bpf(unix.BPF_LINK_CREATE, &linkCreate{progFD: uint32(prog), attachType: unix.BPF_TRACE_ITER})
}

// open starts one pass of the iterator.
func open(link int) (*os.File, error) {
	fd, err := bpf(unix.BPF_ITER_CREATE, &iterCreate{linkFD: uint32(link)})
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), "bpf iterator"), nil
}
