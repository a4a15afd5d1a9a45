package lab

import "berth/netstate/netns"

// NewNamespace makes a network namespace beside the one that the tests run in,
// with lo up and nothing else in it. What is to run inside is given to its
// method Do, and Release lets go of it. It takes root.
func NewNamespace() (netns.Namespace, error) { return netns.New(loopbackUp) }
