//go:build !linux

package netstate

import (
	"errors"
	"fmt"
	"runtime"
)

// errUnsupported is returned where this system has no way to do a thing at
// all; Linux has one for everything that this package does.
func errUnsupported(op string) error {
	return &OpError{Op: op, Err: fmt.Errorf("%w on %s/%s", errors.ErrUnsupported, runtime.GOOS, runtime.GOARCH)}
}
