package netstate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"berth/netstate/netns"
)

// backend is what each platform implements: reader_linux.go,
// reader_netstat_*.go, reader_bsd.go. A backend is used by one goroutine at
// a time; System serialises.
type backend interface {
	// read appends the sockets of the backend's scope to dst, in any order: all
	// of them if port is 0, and otherwise at least those that a bind to the port
	// can meet, and all that listen. Requests (SYN-RECV) are no sockets yet, and
	// no bind meets them.
	read(ctx context.Context, port uint16, dst []Socket) ([]Socket, error)
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
	sem chan struct{} // held while a backend is in use; a channel so that waiting respects a context
	// tables has one entry for each scope that was asked for. The first is the
	// zero scope's.
	tables map[tableID]*table
}

// tableID is a scope as far as two of them differ in their sockets.
type tableID struct {
	protocol Protocol
	netns    uint64
}

func (s Scope) table() tableID { return tableID{s.Protocol, s.NetNS.ID} }

// table is how the sockets of one scope are read.
type table struct {
	backend
	last int // number of sockets in the last snapshot, to size the next
}

// Open finds the best way to read the TCP sockets of this system. It fails
// only if there is none at all. Other scopes are opened when they are asked
// for.
func Open() (*System, error) {
	s := &System{sem: make(chan struct{}, 1), tables: map[tableID]*table{}}
	if _, err := s.table(Scope{}); err != nil {
		return nil, err
	}
	return s, nil
}

// table returns the table of a scope. The lock must be held.
func (s *System) table(scope Scope) (*table, error) {
	id := scope.table()
	if t := s.tables[id]; t != nil {
		return t, nil
	}
	b, err := openScope(scope)
	if err != nil {
		return nil, err
	}
	t := &table{backend: b}
	s.tables[id] = t
	return t, nil
}

// openScope opens a backend that works inside the scope's network namespace.
func openScope(scope Scope) (backend, error) {
	if scope.NetNS.Own() {
		return openBackend(scope)
	}
	var b backend
	err := scope.NetNS.Do(func() (err error) {
		b, err = openBackend(scope)
		return err
	})
	if err != nil {
		return nil, err
	}
	return inside{b, scope.NetNS}, nil
}

// inside is a backend of another network namespace. Only what opens or reads a
// file or asks about an interface has to happen inside: a netlink socket stays
// in the namespace that it was made in, and processes are everywhere the same.
type inside struct {
	backend
	ns netns.Namespace
}

func (i inside) flags(spec BindSpec, sockets []Socket, owners *Owners) {
	// Without the right to enter, the options stay unknown.
	_ = i.ns.Do(func() error {
		i.backend.flags(spec, sockets, owners)
		return nil
	})
}

func (i inside) caps() (c Caps) {
	_ = i.ns.Do(func() error {
		c = i.backend.caps()
		return nil
	})
	return c
}

// Close releases what Open and the later calls acquired.
func (s *System) Close() error {
	s.sem <- struct{}{}
	defer func() { <-s.sem }()
	var errs []error
	for _, t := range s.tables {
		errs = append(errs, t.close())
	}
	return errors.Join(errs...)
}

// Forget releases the table of a scope that will not be asked for soon, such
// as that of a container that has ended.
func (s *System) Forget(scope Scope) error {
	s.sem <- struct{}{}
	defer func() { <-s.sem }()
	id := scope.table()
	t := s.tables[id]
	if t == nil || id == (tableID{}) {
		return nil
	}
	delete(s.tables, id)
	return t.close()
}

func (s *System) lock(ctx context.Context) error {
	select {
	case s.sem <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Read takes a snapshot of every TCP socket in this network namespace.
func (s *System) Read(ctx context.Context) (*Snapshot, error) { return s.ReadIn(ctx, Scope{}) }

// ReadIn takes a snapshot of every socket of a scope. The error matches
// fs.ErrPermission if this process may not enter its network namespace, and
// fs.ErrNotExist if that is gone.
func (s *System) ReadIn(ctx context.Context, scope Scope) (*Snapshot, error) {
	return s.read(ctx, scope, 0)
}

func (s *System) read(ctx context.Context, scope Scope, port uint16) (*Snapshot, error) {
	if err := s.lock(ctx); err != nil {
		return nil, err
	}
	defer func() { <-s.sem }()
	t, err := s.table(scope)
	if err != nil {
		return nil, err
	}
	sockets, err := t.read(ctx, port, make([]Socket, 0, t.last+t.last/8+64))
	if err != nil {
		return nil, err
	}
	t.last = len(sockets)
	snap := NewSnapshot(time.Now(), sockets, t.caps())
	snap.Scope = scope
	return snap, nil
}

// Owners finds every process that holds one of the sockets, with its facts.
// It costs a walk over the descriptors of all processes, so ask for the
// sockets that matter, at once. They may come from several scopes.
func (s *System) Owners(ctx context.Context, sockets []Socket) (*Owners, error) {
	if err := s.lock(ctx); err != nil {
		return nil, err
	}
	defer func() { <-s.sem }()
	t, err := s.table(Scope{})
	if err != nil {
		return nil, err
	}
	return t.owners(ctx, sockets)
}

// Why makes the bind and explains its result: one probe, one snapshot, the
// holders and the options of the port's sockets, one verdict. Where the answer
// hangs on options that no reader shows, it makes some further binds of its own
// to learn them, all with SO_REUSEADDR. Like the first, each of them holds an
// address for some microseconds, so nobody may be about to start a server there.
func (s *System) Why(ctx context.Context, spec BindSpec) (Verdict, error) {
	for try := 1; ; try++ {
		v, err := s.why(ctx, spec)
		if err != nil || v.Reason != ReasonUnknown || (Probe{Err: v.Err}).Class() != ClassInUse || try == whyTries {
			return v, err
		}
	}
}

// whyTries is how often a refusal that nothing explains is looked at. A
// connection that is closing is in no table of the kernel while its socket is
// replaced by a minisocket, and refuses a bind all the same.
const whyTries = 3

func (s *System) why(ctx context.Context, spec BindSpec) (Verdict, error) {
	probe := TryBind(spec)
	snap, err := s.read(ctx, spec.Scope, spec.Port)
	if err != nil {
		return Verdict{}, err
	}
	owners, err := s.Owners(ctx, snap.Port(spec.Port))
	if err != nil {
		return Verdict{}, err
	}
	return s.explain(ctx, spec, &probe, snap, owners, true)
}

// Explain is the function of that name, with the options of the port's
// sockets filled in as far as this process may read them. It makes no bind. A caller that has a
// snapshot and its owners already, such as one that watches, saves with it
// what Why would read again. probe may be nil. A snapshot of another scope than
// the spec's is an error, since it would explain nothing.
func (s *System) Explain(ctx context.Context, spec BindSpec, probe *Probe, snap *Snapshot, owners *Owners) (Verdict, error) {
	return s.explain(ctx, spec, probe, snap, owners, false)
}

func (s *System) explain(ctx context.Context, spec BindSpec, probe *Probe, snap *Snapshot, owners *Owners, mayBind bool) (Verdict, error) {
	if err := s.lock(ctx); err != nil {
		return Verdict{}, err
	}
	defer func() { <-s.sem }()
	if spec.table() != snap.table() {
		return Verdict{}, fmt.Errorf("explain %s by the %s sockets of another scope", spec, snap.Protocol)
	}
	t, err := s.table(spec.Scope)
	if err != nil {
		return Verdict{}, err
	}
	sockets := slices.Clone(snap.Port(spec.Port)) // a snapshot is never changed
	t.flags(spec, sockets, owners)
	var oneOf [][]int
	if mayBind {
		oneOf = t.experiment(ctx, spec, sockets, &snap.Caps)
	}
	v := explain(spec, probe, snap, sockets, owners, oneOf)
	completeSupervisors(&v, readUnits)
	return v, nil
}

// TryBind makes one real bind with the spec's exact options and closes the
// socket again. If spec.UID is not the caller's, the bind is made as that
// user, and inside spec.NetNS, where MayBind allows it.
func TryBind(spec BindSpec) Probe {
	start := time.Now()
	err := asBinder(spec, func() error { return bind(spec) })
	return Probe{Spec: spec, At: start, Took: time.Since(start), Err: err}
}
