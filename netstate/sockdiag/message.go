package sockdiag

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// AllStates asks for every state.
const AllStates = 1<<14 - 2

// StateListen is the bit that asks for LISTEN sockets. They live in a hash of
// their own, so that this dump does not depend on the number of connections.
const StateListen = 1 << 10

// StateBound is the bit that asks for sockets that are bound and neither listen
// nor connect (TCPF_BOUND_INACTIVE). Kernels before 6.8 ignore it.
const StateBound = 1 << 13

// Protocol is a transport protocol by its number in an IP header.
type Protocol uint8

// The protocols whose sockets the kernel can be asked for here.
const (
	TCP Protocol = 6
	UDP Protocol = 17
)

// Query selects the sockets of a dump.
type Query struct {
	// Protocol is TCP if it is 0.
	Protocol Protocol
	// States has one bit for each wanted state.
	States uint32
	// Port restricts the dump to sockets with this local port; 0 is all.
	Port uint16
}

// Record is one struct inet_diag_msg in host byte order with the attributes
// that berth reads (include/uapi/linux/inet_diag.h).
type Record struct {
	Family     uint8 // AF_INET or AF_INET6
	State      uint8
	Timer      uint8
	LocalPort  uint16
	RemotePort uint16
	// Local and Remote hold an IPv4 address in their first four bytes.
	Local, Remote [16]byte
	Interface     uint32
	Cookie        uint64
	ExpiresMS     uint32
	RecvQ, SendQ  uint32
	UID           uint32
	Inode         uint32
	// V6Only is valid if HasV6Only: the kernel tells it for AF_INET6 sockets
	// in LISTEN and CLOSE only.
	V6Only, HasV6Only bool
}

const (
	sizeHeader = 16 // struct nlmsghdr
	sizeSockID = 48 // struct inet_diag_sockid
	sizeMsg    = 72 // struct inet_diag_msg
	sizeCompat = 60 // struct inet_diag_req
	sizeReqV2  = 56 // struct inet_diag_req_v2

	typeError   = 2  // NLMSG_ERROR
	typeDone    = 3  // NLMSG_DONE
	typeCompat  = 18 // TCPDIAG_GETSOCK
	typeFamily  = 20 // SOCK_DIAG_BY_FAMILY
	typeDestroy = 21 // SOCK_DESTROY

	flagRequest = 0x1
	flagAck     = 0x4
	flagDump    = 0x300

	attrSkV6Only = 11 // INET_DIAG_SKV6ONLY
)

// errTruncated is returned for a message that ends before its own length.
var errTruncated = errors.New("sock_diag answer is cut short")

// appendDump appends the request for the sockets of q of both families, which
// only the older request of TCP can ask for at once.
func appendDump(b []byte, seq uint32, q Query) []byte {
	b = appendHeader(b, sizeHeader+sizeCompat, typeCompat, flagRequest|flagDump, seq)
	var req [sizeCompat]byte
	// struct inet_diag_req: family, src_len, dst_len, ext, id, states, dbs.
	// The family stays AF_UNSPEC, which the kernel takes as "both".
	binary.BigEndian.PutUint16(req[4:], q.Port)
	binary.NativeEndian.PutUint32(req[4+sizeSockID:], q.States)
	return append(b, req[:]...)
}

// appendFamilyDump appends the request for the sockets of q of one family.
func appendFamilyDump(b []byte, seq uint32, q Query, family uint8) []byte {
	b = appendHeader(b, sizeHeader+sizeReqV2, typeFamily, flagRequest|flagDump, seq)
	var req [sizeReqV2]byte
	// struct inet_diag_req_v2: family, protocol, ext, pad, states, id.
	req[0], req[1] = family, uint8(q.Protocol)
	binary.NativeEndian.PutUint32(req[4:], q.States)
	binary.BigEndian.PutUint16(req[8:], q.Port)
	return append(b, req[:]...)
}

// appendDestroy appends the request to destroy exactly the socket r. The
// cookie makes the kernel refuse (ENOENT) if another socket took its place. A
// failure is always answered, success only if ack is set.
func appendDestroy(b []byte, seq uint32, r *Record, ack bool) []byte {
	flags := flagRequest
	if ack {
		flags |= flagAck
	}
	b = appendHeader(b, sizeHeader+sizeReqV2, typeDestroy, flags, seq)
	var req [sizeReqV2]byte
	req[0] = r.Family
	req[1] = 6 // IPPROTO_TCP
	binary.NativeEndian.PutUint32(req[4:], 1<<r.State)
	id := req[8:]
	binary.BigEndian.PutUint16(id[0:], r.LocalPort)
	binary.BigEndian.PutUint16(id[2:], r.RemotePort)
	copy(id[4:20], r.Local[:])
	copy(id[20:36], r.Remote[:])
	binary.NativeEndian.PutUint32(id[36:], r.Interface)
	binary.NativeEndian.PutUint32(id[40:], uint32(r.Cookie))
	binary.NativeEndian.PutUint32(id[44:], uint32(r.Cookie>>32))
	return append(b, req[:]...)
}

func appendHeader(b []byte, size, typ, flags int, seq uint32) []byte {
	b = binary.NativeEndian.AppendUint32(b, uint32(size))
	b = binary.NativeEndian.AppendUint16(b, uint16(typ))
	b = binary.NativeEndian.AppendUint16(b, uint16(flags))
	b = binary.NativeEndian.AppendUint32(b, seq)
	return binary.NativeEndian.AppendUint32(b, 0) // the kernel fills in the port id
}

// message is one netlink message inside a datagram.
type message struct {
	typ  uint16
	seq  uint32
	body []byte
}

// isSocket reports whether the body is an inet_diag_msg: an answer carries the
// type of its request, and an event the newer one.
func (m *message) isSocket() bool { return m.typ == typeFamily || m.typ == typeCompat }

// next cuts the first message off b.
func next(b []byte) (m message, rest []byte, err error) {
	if len(b) < sizeHeader {
		return message{}, nil, errTruncated
	}
	size := int(binary.NativeEndian.Uint32(b))
	if size < sizeHeader || size > len(b) {
		return message{}, nil, errTruncated
	}
	m = message{
		typ:  binary.NativeEndian.Uint16(b[4:]),
		seq:  binary.NativeEndian.Uint32(b[8:]),
		body: b[sizeHeader:size],
	}
	return m, b[min(align(size), len(b)):], nil
}

// align rounds up to netlink's four bytes.
func align(n int) int { return (n + 3) &^ 3 }

// errno reads the code of an NLMSG_ERROR or NLMSG_DONE body: 0 is success.
func errno(body []byte) (int32, error) {
	if len(body) < 4 {
		return 0, errTruncated
	}
	return -int32(binary.NativeEndian.Uint32(body)), nil
}

// parse fills r from an inet_diag_msg and its attributes.
func (r *Record) parse(b []byte) error {
	if len(b) < sizeMsg {
		return fmt.Errorf("%w: %d of %d bytes", errTruncated, len(b), sizeMsg)
	}
	r.Family, r.State, r.Timer = b[0], b[1], b[2]
	id := b[4:]
	r.LocalPort = binary.BigEndian.Uint16(id[0:])
	r.RemotePort = binary.BigEndian.Uint16(id[2:])
	copy(r.Local[:], id[4:20])
	copy(r.Remote[:], id[20:36])
	r.Interface = binary.NativeEndian.Uint32(id[36:])
	r.Cookie = uint64(binary.NativeEndian.Uint32(id[40:])) | uint64(binary.NativeEndian.Uint32(id[44:]))<<32
	tail := b[4+sizeSockID:]
	r.ExpiresMS = binary.NativeEndian.Uint32(tail[0:])
	r.RecvQ = binary.NativeEndian.Uint32(tail[4:])
	r.SendQ = binary.NativeEndian.Uint32(tail[8:])
	r.UID = binary.NativeEndian.Uint32(tail[12:])
	r.Inode = binary.NativeEndian.Uint32(tail[16:])
	r.V6Only, r.HasV6Only = false, false
	for attrs := b[sizeMsg:]; len(attrs) >= 4; {
		size := int(binary.NativeEndian.Uint16(attrs))
		if size < 4 || size > len(attrs) {
			return errTruncated
		}
		if binary.NativeEndian.Uint16(attrs[2:]) == attrSkV6Only && size > 4 {
			r.V6Only, r.HasV6Only = attrs[4] != 0, true
		}
		attrs = attrs[min(align(size), len(attrs)):]
	}
	return nil
}
