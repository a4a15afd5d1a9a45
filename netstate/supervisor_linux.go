package netstate

import (
	"bytes"
	"context"
	"os"
	accounts "os/user"
	"strconv"
	"strings"
)

// supervisorOf says who supervises a process whose other facts are in h. The
// environment of a process is readable for root and its own user only.
func supervisorOf(_ context.Context, h *Holder) *Supervisor { return recognise(h, procfs{}) }

// procfs reads /proc.
type procfs struct{}

func (procfs) file(pid int, name string) []byte {
	b, err := readProc(pid, name)
	if err != nil {
		return nil // ended, or another user's
	}
	return b
}

func (p procfs) cmdline(pid int) []string { return nulSeparated(p.file(pid, "cmdline")) }

func (procfs) cwd(pid int) string {
	dir, err := os.Readlink("/proc/" + strconv.Itoa(pid) + "/cwd")
	if err != nil {
		return ""
	}
	return dir
}

func (p procfs) environ(pid int) map[string]string {
	return environment(nulSeparated(p.file(pid, "environ")))
}

func (p procfs) cgroup(pid int) string { return string(p.file(pid, "cgroup")) }

// pod looks among the directories of the pods' logs, which the kubelet names
// NAMESPACE_NAME_UID.
func (procfs) pod(uid string) (namespace, name string) {
	dir, err := os.Open("/var/log/pods")
	if err != nil {
		return "", ""
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(-1)
	for _, entry := range names {
		if both, ok := strings.CutSuffix(entry, "_"+uid); ok {
			namespace, name, _ = strings.Cut(both, "_")
			return namespace, name
		}
	}
	return "", ""
}

func (procfs) asker() asker {
	_, container := controlGroup(os.Getpid())
	return asker{uid: os.Geteuid(), container: container}
}

// nulSeparated reads cmdline and environ. A process that gave itself a title
// leaves zero bytes behind it.
func nulSeparated(b []byte) []string {
	b = bytes.TrimRight(b, "\x00")
	if len(b) == 0 {
		return nil
	}
	return strings.Split(string(b), "\x00")
}

// readUnits finds the unit files on this machine. Those of a container are
// another's.
func readUnits(s *Supervisor, h *Holder) (u units, user *account, ok bool) {
	if h.Container != "" {
		return units{}, nil, false
	}
	root := os.DirFS("/")
	switch s.Kind {
	case SupervisorSystemd:
		return systemUnits(root), nil, true
	case SupervisorSystemdUser:
		_, uid := managerIn(procfs{}.cgroup(h.ID.PID), h.Unit)
		if h.Unit == "" {
			uid = h.UID // the manager itself
		}
		who, err := accounts.LookupId(strconv.Itoa(uid))
		if err != nil {
			return units{}, nil, false
		}
		return userUnits(root, who.HomeDir, uid), userManager(uid, who.Username, procfs{}.asker()), true
	}
	return units{}, nil, false
}
