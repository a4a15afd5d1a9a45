//go:build !linux

package netns

import (
	"context"
	"errors"
)

// Do calls do, since there is only one namespace here.
func (n Namespace) Do(do func() error) error { return do() }

// Hold calls do, since the only namespace never ends.
func (n Namespace) Hold(do func(held Namespace) error) error { return do(n) }

// List returns errors.ErrUnsupported.
func List(context.Context) ([]Namespace, error) { return nil, unsupported("list", "all") }

// Find returns errors.ErrUnsupported.
func Find(_ context.Context, name string) (Namespace, error) {
	return Namespace{}, unsupported("find", name)
}

func unsupported(op, name string) error {
	return &Error{Op: op, Name: name, Err: errors.ErrUnsupported, Hint: "only Linux has network namespaces"}
}
