//go:build !linux

package netstate

import (
	"context"

	"berth/netstate/netns"
)

// Namespaces returns errors.ErrUnsupported: only Linux has them.
func Namespaces(ctx context.Context) ([]netns.Namespace, error) { return netns.List(ctx) }

// FindNamespace returns errors.ErrUnsupported: only Linux has them.
func FindNamespace(ctx context.Context, name string) (netns.Namespace, error) {
	return netns.Find(ctx, name)
}
