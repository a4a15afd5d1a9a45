package netstate

import (
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"

	"berth/netstate/lab"
)

func TestCalledBy(t *testing.T) {
	const full = "3f2a61c09b1e5d3f2a61c09b1e5d3f2a61c09b1e5d3f2a61c09b1e5d3f2a61c0"
	for _, c := range []struct {
		name, container string
		want            bool
	}{
		{"docker 3f2a61c09b1e", "docker 3f2a61c09b1e", true},
		{"3f2a61c09b1e", "docker 3f2a61c09b1e", true},
		{"3f2a", "docker 3f2a61c09b1e", true},
		{full, "docker 3f2a61c09b1e", true},
		{"3f2", "docker 3f2a61c09b1e", false},
		{"3f2b", "docker 3f2a61c09b1e", false},
		{"docker", "docker 3f2a61c09b1e", false},
		{"web", "machine web", true},
		{"machine web", "machine web", true},
		{"we", "machine web", false},
		{"web", "", false},
		{"", "docker 3f2a61c09b1e", false},
	} {
		if got := calledBy(c.name, c.container); got != c.want {
			t.Errorf("calledBy(%q, %q) = %v", c.name, c.container, got)
		}
	}
}

// A namespace that has no better name is called by its first process.
func TestNamespaces(t *testing.T) {
	lab.NeedNamespace(t)
	if os.Geteuid() != 0 {
		t.Skip("needs root (CAP_SYS_ADMIN) to make network namespaces")
	}
	ns, err := lab.NewNamespace()
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Release()
	l, err := lab.Listen(netip.MustParseAddrPort("127.0.0.1:0"), lab.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var pid int
	if err := ns.Do(func() error {
		child, err := l.Inherit()
		if err != nil {
			return err
		}
		pid = child.PID
		t.Cleanup(func() { child.Close() })
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	all, err := Namespaces(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range all {
		if n.ID == ns.ID {
			if n.PID != pid || !strings.HasSuffix(n.Name, strconv.Itoa(pid)) {
				t.Errorf("the namespace of pid %d is %+v", pid, n)
			}
			if found, err := FindNamespace(t.Context(), strconv.Itoa(pid)); err != nil || found.ID != ns.ID || found.Name != n.Name {
				t.Errorf("found %+v, %v; want %+v", found, err, n)
			}
			return
		}
	}
	t.Errorf("the namespace %d is missing in %+v", ns.ID, all)
}
