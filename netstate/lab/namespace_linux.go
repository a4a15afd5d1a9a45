package lab

import (
	"os"

	"berth/netstate/netns"
)

// Namespace is a network namespace beside the one that the tests run in, with
// lo up and nothing else in it. It takes root.
type Namespace struct {
	netns.Namespace
	file *os.File // keeps it alive, and is what its path leads to
}

// NewNamespace makes one. What is to run inside is given to its method Do.
func NewNamespace() (*Namespace, error) {
	ns, file, err := netns.New(loopbackUp)
	if err != nil {
		return nil, err
	}
	return &Namespace{ns, file}, nil
}

// Close lets go of the namespace, which ends with its last socket.
func (n *Namespace) Close() error { return n.file.Close() }
