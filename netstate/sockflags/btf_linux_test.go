package sockflags

import (
	"bytes"
	"encoding/binary"
	"os"
	"testing"

	"github.com/cilium/ebpf/btf"
)

// encoded is a small BTF that the library writes, with the shapes that the
// kernel's has: anonymous structs and unions within each other, bit fields,
// and members before and after them.
func encoded(t testing.TB) []byte {
	t.Helper()
	u8 := &btf.Int{Name: "unsigned char", Size: 1}
	word := &btf.Int{Name: "unsigned long", Size: 8}
	flags := &btf.Struct{Size: 2, Members: []btf.Member{
		{Name: "skc_reuse", Type: u8, Offset: 0, BitfieldSize: 4},
		{Name: "skc_reuseport", Type: u8, Offset: 4, BitfieldSize: 1},
		{Name: "skc_ipv6only", Type: u8, Offset: 5, BitfieldSize: 1},
	}}
	sock := &btf.Struct{Name: "sock_common", Size: 32, Members: []btf.Member{
		{Name: "skc_first", Type: word},
		{Type: &btf.Union{Size: 8, Members: []btf.Member{{Name: "skc_other", Type: word}, {Type: flags}}}, Offset: 64},
		{Name: "skc_cookie", Type: word, Offset: 128},
	}}
	meta := &btf.Struct{Name: "bpf_iter_meta", Size: 24, Members: []btf.Member{{Name: "seq", Type: word, Offset: 64}}}
	ctx := &btf.Struct{Name: "bpf_iter__tcp", Size: 24, Members: []btf.Member{
		{Name: "meta", Type: &btf.Pointer{Target: meta}}, {Name: "sk_common", Type: &btf.Pointer{Target: sock}, Offset: 64},
	}}
	b, err := btf.NewBuilder([]btf.Type{
		// A type that has a wanted name and is none of the kind.
		&btf.Typedef{Name: "sock_common", Type: word},
		&btf.Func{Name: "bpf_iter_tcp", Type: &btf.FuncProto{Return: word, Params: []btf.FuncParam{{Name: "meta", Type: word}, {Name: "sk_common", Type: word}}}, Linkage: btf.GlobalFunc},
		ctx, meta, sock,
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := b.Marshal(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestLayoutLooksInside(t *testing.T) {
	l, err := layoutOf(encoded(t))
	if err != nil {
		t.Fatal(err)
	}
	got := *l
	got.target = 0
	want := layout{ctxSock: 8, metaSeq: 8, cookie: 16, flags: 8, span: 1, bits: bits{reuse: field{0, 4}, reusePort: field{4, 1}, v6only: field{5, 1}}}
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// TestLayoutIsTheLibrarys compares with what the library that decodes
// everything finds in the running kernel.
func TestLayoutIsTheLibrarys(t *testing.T) {
	kernel, err := os.ReadFile(kernelTypes)
	if err != nil {
		t.Skipf("needs a kernel with BTF: %v", err)
	}
	l, err := layoutOf(kernel)
	if err != nil {
		t.Fatal(err)
	}
	spec, err := btf.LoadSpecFromReader(bytes.NewReader(kernel))
	if err != nil {
		t.Fatal(err)
	}
	var fn *btf.Func
	if err := spec.TypeByName("bpf_iter_tcp", &fn); err != nil {
		t.Fatal(err)
	}
	if id, err := spec.TypeID(fn); err != nil || typeID(id) != l.target {
		t.Errorf("bpf_iter_tcp is type %d, and the library's %d (%v)", l.target, id, err)
	}
	var sock *btf.Struct
	if err := spec.TypeByName("sock_common", &sock); err != nil {
		t.Fatal(err)
	}
	for name, f := range map[string]field{"skc_reuse": l.bits.reuse, "skc_reuseport": l.bits.reusePort, "skc_ipv6only": l.bits.v6only, "skc_cookie": {}} {
		m, ok := memberOf(sock.Members, name, 0)
		if !ok {
			t.Errorf("the library finds no %s", name)
			continue
		}
		at, width := uint32(l.flags)*8+f.shift, f.width
		if name == "skc_cookie" {
			at, width = uint32(l.cookie)*8, 0
		}
		if uint32(m.Offset) != at || uint32(m.BitfieldSize) != width {
			t.Errorf("%s is at bit %d with %d bits, and the library's at %d with %d", name, at, width, m.Offset, m.BitfieldSize)
		}
	}
}

func memberOf(ms []btf.Member, name string, base btf.Bits) (btf.Member, bool) {
	for _, m := range ms {
		m.Offset += base
		if m.Name == name {
			return m, true
		}
		var inner []btf.Member
		switch t := m.Type.(type) {
		case *btf.Struct:
			inner = t.Members
		case *btf.Union:
			inner = t.Members
		}
		if m.Name == "" {
			if found, ok := memberOf(inner, name, m.Offset); ok {
				return found, true
			}
		}
	}
	return btf.Member{}, false
}

func TestLayoutOfAnotherKernel(t *testing.T) {
	good := encoded(t)
	for name, b := range map[string][]byte{
		"nothing":          nil,
		"another file":     []byte("ELF, or what looks like it, and long enough for a header"),
		"cut off":          good[:len(good)-1],
		"no such iterator": bytes.ReplaceAll(good, []byte("bpf_iter_tcp\x00"), []byte("bpf_iter_udp\x00")),
		"no such member":   bytes.ReplaceAll(good, []byte("skc_reuse\x00"), []byte("skc_reuze\x00")),
		"unknown kind":     withKind(good, 31),
	} {
		if l, err := layoutOf(b); err == nil {
			t.Errorf("%s: no error but %+v", name, l)
		}
	}
}

// withKind changes the kind of the first type.
func withKind(b []byte, kind byte) []byte {
	b = bytes.Clone(b)
	info := b[headerSize+4:]
	binary.NativeEndian.PutUint32(info, binary.NativeEndian.Uint32(info)&^(0x1f<<24)|uint32(kind)<<24)
	return b
}

// FuzzLayout: whatever a kernel shows, it is an error or a layout.
func FuzzLayout(f *testing.F) {
	f.Add(encoded(f))
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := layoutOf(b)
		if err == nil && (l.span < 1 || l.span > 8) {
			t.Errorf("a layout of %d bytes", l.span)
		}
	})
}
