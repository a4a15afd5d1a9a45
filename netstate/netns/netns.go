package netns

import (
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Namespace names one network namespace. It is a value and, unless it comes
// from Keep, holds nothing open: each entry opens it anew and makes sure that
// it is still the same one. The zero value is the namespace of this process.
type Namespace struct {
	// ID is the inode number of the namespace, which lsns(8) shows as NS. The
	// kernel gives it to no other namespace as long as this one exists.
	ID uint64
	// Path is a file by which it can be entered: /proc/PID/ns/net, or one that
	// ip-netns(8) or a container engine has mounted.
	Path string
	// Name is what a person calls it: the name that ip-netns(8) gave it, or
	// what the finder knows it by.
	Name string
	// PID is the lowest process that lives in it, as far as processes may be
	// seen; 0 if there is none.
	PID int

	kept *os.File // by Keep; nil otherwise
}

// Own reports whether this is the namespace that the process itself lives in.
func (n Namespace) Own() bool { return n.ID == 0 }

// String returns the name; "" for the process's own namespace.
func (n Namespace) String() string {
	if n.Name == "" && !n.Own() {
		return fmt.Sprintf("net:[%d]", n.ID)
	}
	return n.Name
}

// Arg returns what Find takes to find it again, and what needs no quotes in a
// shell: the name of a mounted namespace, or else its number.
func (n Namespace) Arg() string {
	dir, name := path.Split(n.Path)
	plain := name != "" && strings.Trim(name, "0123456789") != ""
	for _, c := range []byte(name) {
		plain = plain && (c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("._-", c) >= 0)
	}
	if plain && slices.Contains(namedDirs, path.Clean(dir)) {
		return name
	}
	return strconv.FormatUint(n.ID, 10)
}

// namedDirs are where ip-netns(8) and container engines mount namespaces, so
// that they can be named, and outlive their last process.
var namedDirs = []string{"/run/netns", "/run/docker/netns"}

// ErrUnknown is what Find's error unwraps to if there is no such namespace.
var ErrUnknown = errors.New("no process, namespace or container is called that")

// Error says what could not be done with a namespace. It unwraps to the
// system's error.
type Error struct {
	Op   string // "enter", "find"
	Name string
	Err  error
	Hint string // what to do about it; may be empty
}

func (e *Error) Error() string {
	return fmt.Sprintf("cannot %s the network namespace %q: %v", e.Op, e.Name, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }
