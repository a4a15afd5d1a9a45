package netstate

import (
	"context"
	"slices"
	"time"
)

// backend is what each platform implements: reader_linux.go,
// reader_netstat_*.go, reader_bsd.go. A backend is used by one goroutine at
// a time; System serialises.
type backend interface {
	// read appends every TCP socket of the system (of this network
	// namespace, on Linux) to dst, in any order.
	read(ctx context.Context, dst []Socket) ([]Socket, error)
	// owners finds every process that holds one of the sockets.
	owners(ctx context.Context, sockets []Socket) (*Owners, error)
	// flags fills in ReuseAddr, ReusePort and V6Only, in place, of the sockets
	// on spec's port, as far as this system and these rights can tell and as
	// far as it matters to the bind.
	flags(spec BindSpec, sockets []Socket, owners *Owners)
	caps() Caps
	close() error
}

// OpError says which reading failed. It unwraps to the system's error, so
// that errors.Is(err, fs.ErrPermission) works.
type OpError struct {
	Op   string // "read the socket table"
	Err  error
	Hint string // what to do about it; may be empty
}

func (e *OpError) Error() string { return e.Op + ": " + e.Err.Error() }
func (e *OpError) Unwrap() error { return e.Err }

// System reads this machine's sockets. It is safe for concurrent use.
type System struct {
	sem  chan struct{} // held while the backend is in use; a channel so that waiting respects a context
	b    backend
	last int // number of sockets in the last snapshot, to size the next
}

// Open finds the best way to read the socket table on this system. It fails
// only if there is none at all.
func Open() (*System, error) {
	b, err := openBackend()
	if err != nil {
		return nil, err
	}
	return &System{sem: make(chan struct{}, 1), b: b}, nil
}

// Close releases what Open acquired.
func (s *System) Close() error {
	s.sem <- struct{}{}
	defer func() { <-s.sem }()
	return s.b.close()
}

func (s *System) lock(ctx context.Context) error {
	select {
	case s.sem <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Read takes a snapshot of every TCP socket.
func (s *System) Read(ctx context.Context) (*Snapshot, error) {
	if err := s.lock(ctx); err != nil {
		return nil, err
	}
	defer func() { <-s.sem }()
	sockets, err := s.b.read(ctx, make([]Socket, 0, s.last+s.last/8+64))
	if err != nil {
		return nil, err
	}
	s.last = len(sockets)
	return NewSnapshot(time.Now(), sockets, s.b.caps()), nil
}

// Owners finds every process that holds one of the sockets, with its facts.
// It costs a walk over the descriptors of all processes, so ask for the
// sockets that matter, at once.
func (s *System) Owners(ctx context.Context, sockets []Socket) (*Owners, error) {
	if err := s.lock(ctx); err != nil {
		return nil, err
	}
	defer func() { <-s.sem }()
	return s.b.owners(ctx, sockets)
}

// Why makes the bind and explains its result: one probe, one snapshot, the
// holders and the options of the port's sockets, one verdict.
func (s *System) Why(ctx context.Context, spec BindSpec) (Verdict, error) {
	probe := TryBind(spec)
	snap, err := s.Read(ctx)
	if err != nil {
		return Verdict{}, err
	}
	owners, err := s.Owners(ctx, snap.Port(spec.Port))
	if err != nil {
		return Verdict{}, err
	}
	return s.Explain(ctx, spec, &probe, snap, owners)
}

// Explain is the function of that name, with the options of the port's
// sockets filled in as far as this process may read them. A caller that has a
// snapshot and its owners already, such as one that watches, saves with it
// what Why would read again. probe may be nil.
func (s *System) Explain(ctx context.Context, spec BindSpec, probe *Probe, snap *Snapshot, owners *Owners) (Verdict, error) {
	if err := s.lock(ctx); err != nil {
		return Verdict{}, err
	}
	defer func() { <-s.sem }()
	sockets := slices.Clone(snap.Port(spec.Port)) // a snapshot is never changed
	s.b.flags(spec, sockets, owners)
	return explain(spec, probe, snap, sockets, owners), nil
}

// TryBind makes one real bind with the spec's exact options and closes the
// socket again. If spec.UID is not the caller's, the bind is made as that
// user, where MayBindAs allows it.
func TryBind(spec BindSpec) Probe {
	start := time.Now()
	err := asUser(spec.UID, func() error { return bind(spec) })
	return Probe{Spec: spec, At: start, Took: time.Since(start), Err: err}
}
