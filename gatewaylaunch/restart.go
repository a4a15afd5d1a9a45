package gatewaylaunch

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"sync"
	"time"

	"berth/gatewaylaunch/bindnotify"
	"berth/netstate"
	"berth/reclaim"
)

// Handover is the order in which an old server ends and a new one begins.
type Handover string

// The orders. In both of them clients that connect meanwhile wait in the
// listening socket, which is kept open from the one server to the other.
const (
	// Queue ends the old server first, so that the two never run together: the
	// order for servers with a lock, a pid file or a database.
	Queue Handover = "queue"
	// Overlap starts the new server first and ends the old one once the new
	// one listens.
	Overlap Handover = "overlap"
	// Plain ends the old server and starts the new one, and clients are
	// refused in between.
	Plain Handover = "plain"
)

// ParseHandover reads the name of an order.
func ParseHandover(text string) (Handover, error) {
	h := Handover(text)
	if !slices.Contains([]Handover{Queue, Overlap, Plain}, h) {
		return "", fmt.Errorf("hand-over %q is not queue, overlap or plain", text)
	}
	return h, nil
}

// Around says what is done before and after the steps that end the old server,
// a sentence each; command is what starts the new one.
func (h Handover) Around(command string) (before, after []string) {
	const keep = "keep what listens open: clients that connect wait in it"
	start := "start " + command
	switch h {
	case Queue:
		return []string{keep}, []string{start + ", which gets the socket"}
	case Overlap:
		return []string{keep, start + ", which gets the socket, and wait until it listens"}, nil
	}
	return nil, []string{start + "; clients are refused until it listens"}
}

// Here is the order that is left where no more than s works: without its
// socket in hand, a new server could only start beside the old one.
func (h Handover) Here(s bindnotify.Support) Handover {
	if s.HandOver {
		return h
	}
	return Plain
}

const (
	// settleMost is how long a new server that listens may take to listen on
	// the rest of what the old one listened on.
	settleMost = time.Second
	// holdFor is the default of Restart.HoldFor.
	holdFor = 30 * time.Second
)

// Restart replaces the server that holds a port by a new gateway.
type Restart struct {
	// Launcher starts the new one. Its Retry and Starter are not used.
	Launcher Launcher
	How      Handover
	// Old has hold of whom the plan stops, and Plan is that plan. It was made
	// by StopOnly, shown and confirmed.
	Old  *reclaim.Held
	Plan reclaim.Plan
	// HoldFor is how long a bind of the new server may wait for an address
	// that cannot be handed over; 0 means 30 s.
	HoldFor time.Duration
	// Support is what bindnotify.Supported said.
	Support bindnotify.Support
}

// StopOnly returns a plan that stops whom the given one stops and no more: its
// listeners are not shut down and its port is not waited for, since what
// listens goes on to the next server.
func StopOnly(p reclaim.Plan) reclaim.Plan {
	p.Steps = slices.Clone(p.Steps)
	p.Steps = slices.DeleteFunc(p.Steps, func(s reclaim.Step) bool {
		return s.Kind != reclaim.StepTerm && s.Kind != reclaim.StepKill
	})
	return p
}

// Way is how connections get from the old server to the new one.
type Way string

// The ways.
const (
	// WaySuccessor: the new server gets a socket of its own in the old one's
	// SO_REUSEPORT group, and the old one no new connection from then on. It is
	// asked to end when it has answered all that it had accepted.
	WaySuccessor Way = "successor"
	// WayShared: both have the same socket, because Why. The old server may
	// accept in its last instant, and drop what it has accepted.
	WayShared Way = "shared"
)

// RestartKind is what a RestartEvent tells.
type RestartKind string

// The events of a restart.
const (
	RestartAdopted RestartKind = "adopted" // Count listening sockets are kept open, in the Way
	RestartWeaker  RestartKind = "weaker"  // the order became How, because of Why
	RestartStop    RestartKind = "stop"    // the old server: Stop
	RestartLaunch  RestartKind = "launch"  // the new server: Launch
	RestartBind    RestartKind = "bind"    // the new server asked for an address: Bind
	RestartDone    RestartKind = "done"    // the new server serves alone, Took after the begin
	// RestartBoth says that the new server serves and the old one could not be
	// ended, because of Err: both take clients from the one socket.
	RestartBoth RestartKind = "both"
)

// RestartEvent is one thing that happened during a restart. Events are
// reported one at a time.
type RestartEvent struct {
	At     time.Time
	Kind   RestartKind
	Count  int
	How    Handover
	Way    Way
	Why    string
	Took   time.Duration
	Err    error
	Stop   *reclaim.Event
	Launch *Event
	Bind   *bindnotify.Event
}

// RestartError says that the new server ended before it had taken over, and
// who serves now.
type RestartError struct {
	Exit ExitStatus
	// Listened is set if it had begun to listen, and ended before the old one
	// was stopped. Clients that had connected to it have been reset.
	Listened bool
	// OldServes is set if the old server was not stopped and goes on.
	OldServes bool
	// Err is what the launch returned, or nil.
	Err error
}

func (e *RestartError) Error() string {
	text := fmt.Sprintf("the new server ended with %s before it listened", e.Exit)
	if e.Listened {
		text = fmt.Sprintf("the new server ended with %s as soon as it listened, and its clients were reset", e.Exit)
	}
	var start *StartError
	if errors.As(e.Err, &start) {
		text = start.Error()
	}
	if e.OldServes {
		return text + "; the old one was not stopped and goes on serving"
	}
	return text + "; the old one had been stopped, so nothing serves the port now"
}

// Unwrap returns Err.
func (e *RestartError) Unwrap() error { return e.Err }

// Hint returns what would help.
func (e *RestartError) Hint() string {
	if e.OldServes {
		return ""
	}
	return "correct the command and start it with berth run; clients that were waiting have been reset"
}

// Run replaces the server and stays with the new one until it ends, as
// Launcher.Run does. If the sockets cannot be handed over, the next weaker
// order is used and said.
func (r *Restart) Run(ctx context.Context, on func(RestartEvent)) (ExitStatus, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s := &restarting{Restart: r, on: on, ctx: ctx, began: time.Now(), how: r.How, sockets: &bindnotify.Sockets{}, heard: make(chan struct{}, 1)}
	defer s.sockets.Close()
	s.adopt()
	if s.how != Overlap {
		stopping, heard := r.interruptible(ctx)
		err := s.stopOld(stopping)
		heard()
		if err != nil {
			s.spare()
			return ExitStatus{}, err
		}
	}
	launcher := r.Launcher
	launcher.Retry = Retry{}
	if s.how == Plain {
		// The old server's last connections may hold the port for a moment.
		launcher.Retry = DefaultRetry()
	} else {
		launcher.Starter = s
	}
	var watching sync.WaitGroup
	launched, ended := context.WithCancel(ctx)
	watching.Go(func() { s.follow(launched) })
	exit, err := launcher.Run(ctx, func(e Event) {
		// Who has been given a socket has a listener from then on, and is
		// ready only when it calls listen itself.
		if e.Kind == EventReady && s.sockets.Len() == 0 {
			s.listening(true)
		}
		s.emit(RestartEvent{Kind: RestartLaunch, Launch: &e})
	})
	ended()
	watching.Wait()
	s.spare()
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case (!s.listened || !s.stopped) && ctx.Err() == nil && s.how != Plain:
		return exit, &RestartError{Exit: exit, Listened: s.listened, OldServes: !s.stopped, Err: err}
	case s.stopErr != nil && err == nil:
		err = s.stopErr
	}
	return exit, err
}

// interruptible returns a context that a signal ends which asks this process to
// end. Once the new server runs in the foreground, it gets those instead.
func (r *Restart) interruptible(parent context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(parent)
	if !r.Launcher.Foreground {
		return ctx, cancel
	}
	signals := make(chan os.Signal, 1)
	notifySignals(signals)
	go func() {
		defer signal.Stop(signals)
		for {
			select {
			case sig := <-signals:
				if ends(sig) {
					cancel()
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	return ctx, cancel
}

// restarting is one call of Run.
type restarting struct {
	*Restart
	on      func(RestartEvent)
	ctx     context.Context
	began   time.Time
	sockets *bindnotify.Sockets
	telling sync.Mutex
	// heard tells follow that something has changed below.
	heard chan struct{}

	mu       sync.Mutex
	how      Handover
	listened bool // the new server listens on the port
	blocked  bool // it waits for the old one's address
	stopped  bool // the old one has been asked to end
	stopErr  error
}

func (s *restarting) emit(e RestartEvent) {
	s.telling.Lock()
	defer s.telling.Unlock()
	e.At = time.Now()
	if s.on != nil {
		s.on(e)
	}
}

// adopt takes over the sockets of the old server, or finds the next weaker
// order.
func (s *restarting) adopt() {
	if s.how == Plain {
		return
	}
	err := s.Support.Err
	if s.Support.HandOver {
		err = s.takeSockets()
	}
	if err == nil {
		e := RestartEvent{Kind: RestartAdopted, Count: s.sockets.Len(), Way: WaySuccessor}
		if err := s.sockets.Succeed(); err != nil {
			e.Way, e.Why = WayShared, err.Error()
		}
		s.emit(e)
		return
	}
	if s.how == Queue || !s.Support.Hold {
		// Without its socket in hand, a new server could only start beside the
		// old one, and with queue that is what must not be.
		s.how = Plain
	}
	s.emit(RestartEvent{Kind: RestartWeaker, How: s.how, Why: err.Error()})
}

// takeSockets adopts every listening socket of those who are going to be
// stopped, whatever its port, in the order of their descriptors. One server
// has the sockets of its workers, too.
func (s *restarting) takeSockets() error {
	k := s.Launcher.Kernel
	snap, err := k.Read(s.ctx)
	if err != nil {
		return err
	}
	var all []netstate.Socket
	for _, sockets := range snap.Ports() {
		for i := range sockets {
			if sockets[i].State == netstate.Listen {
				all = append(all, sockets[i])
			}
		}
	}
	owners, err := k.Owners(s.ctx, all)
	if err != nil {
		return err
	}
	type held struct {
		netstate.Holder
		socket *netstate.Socket
	}
	var found []held
	targets := s.Plan.Targets()
	for i := range all {
		for _, h := range owners.Of(&all[i]) {
			if slices.ContainsFunc(targets, func(t netstate.Holder) bool { return t.ID == h.ID }) {
				found = append(found, held{h, &all[i]})
				break
			}
		}
	}
	slices.SortStableFunc(found, func(a, b held) int { return a.FD - b.FD })
	for _, f := range found {
		if err := s.sockets.Adopt(f.Holder, f.socket); err != nil {
			s.sockets.Close()
			return err
		}
	}
	if len(found) == 0 {
		return errors.New("the old server has no listening socket any more")
	}
	return nil
}

// spare gives an old server that has not been stopped its connections back.
func (s *restarting) spare() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.stopped {
		s.sockets.Withdraw()
	}
}

// stopOld asks the old server to end, once it has nothing left to do, and
// waits until it has ended. An error before that leaves it alone.
func (s *restarting) stopOld(ctx context.Context) error {
	if s.how == Queue && s.sockets.Succeeded() {
		if err := s.sockets.Steer(); err != nil {
			s.sockets.Withdraw() // then they share
		}
	}
	if !s.sockets.Succeeded() {
		return s.stopSharer(ctx)
	}
	if err := s.sockets.Drain(ctx, s.Plan.Targets(), s.how == Overlap); err != nil {
		return err
	}
	if err := s.end(ctx, func() {}); err != nil {
		return err
	}
	s.sockets.Leave()
	return nil
}

// end asks the old server to end and waits for it.
func (s *restarting) end(ctx context.Context, signalled func()) error {
	s.mu.Lock()
	s.stopped = true
	s.mu.Unlock()
	return s.Old.Run(ctx, func(e reclaim.Event) {
		if e.Kind == reclaim.EventSignal {
			signalled()
		}
		s.emit(RestartEvent{Kind: RestartStop, Stop: &e})
	})
}

// stopSharer stops an old server that has the sockets which the new one gets,
// and makes what it shuts down on the way listen again.
func (s *restarting) stopSharer(ctx context.Context) error {
	// It is asked while it stands still, and hears it as soon as it runs on.
	resume := s.sockets.Pause(ctx, s.Plan.Targets(), s.how == Overlap)
	defer resume()
	stopRelisten := s.relisten()
	err := s.end(ctx, resume)
	stopRelisten()
	return errors.Join(err, s.sockets.Listen())
}

// relisten undoes at once what a server does that shuts its listener down when
// it begins to end, and may go on with its last clients for long. It costs a
// few system calls each time, and only while the old server ends.
func (s *restarting) relisten() (stop func()) {
	const every = 2 * time.Millisecond
	ctx, cancel := context.WithCancel(context.Background())
	var watching sync.WaitGroup
	watching.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				_ = s.sockets.Listen() // it is tried again, and in the end for good
			}
		}
	})
	return func() { cancel(); watching.Wait() }
}

// Start starts the new server where its binds can be answered.
func (s *restarting) Start(cmd *exec.Cmd) error {
	k := s.Launcher.Kernel
	hold := bindnotify.Hold{For: s.HoldFor, Ports: []uint16{s.Launcher.Spec.Port},
		Wake: func(ctx context.Context, port uint16) <-chan struct{} {
			spec := s.Launcher.Spec
			spec.Port = port
			return k.Wake(ctx, spec)
		}}
	if hold.For == 0 {
		hold.For = holdFor
	}
	config := bindnotify.Config{Sockets: s.sockets, Hold: hold, On: s.bind}
	return (&Binds{Context: s.ctx, Config: config, Foreground: s.Launcher.Foreground}).Start(cmd)
}

// abandonOnSignal lets a server notice the signals that are meant for it while
// its bind is held.
func abandonOnSignal(ctx context.Context, tree *bindnotify.Tree) {
	signals := make(chan os.Signal, 8)
	notifySignals(signals)
	defer signal.Stop(signals)
	for {
		select {
		case sig := <-signals:
			if ends(sig) {
				tree.Abandon()
			}
		case <-ctx.Done():
			tree.Abandon()
			return
		case <-tree.Done():
			return
		}
	}
}

// bind hears what the new server asks for.
func (s *restarting) bind(e bindnotify.Event) {
	s.emit(RestartEvent{Kind: RestartBind, Bind: &e})
	port := s.Launcher.Spec.Port
	switch {
	case e.Kind == bindnotify.KindListen && e.Errno == 0 && e.Call.Addr.Port() == port:
		s.listening(true)
	case e.Kind == bindnotify.KindListen:
		s.listening(false)
	case e.Kind == bindnotify.KindHeld && (e.Why != "" || e.Call.Addr.Port() == port):
		s.mu.Lock()
		s.blocked = true
		s.mu.Unlock()
		s.wake()
	}
}

func (s *restarting) listening(port bool) {
	s.mu.Lock()
	s.listened = s.listened || port
	s.mu.Unlock()
	s.wake()
}

func (s *restarting) wake() {
	select {
	case s.heard <- struct{}{}:
	default:
	}
}

// follow waits until the new server serves, ends the old one if that is not
// done yet, and lets go of the sockets.
func (s *restarting) follow(ctx context.Context) {
	settle := time.NewTimer(time.Hour)
	defer settle.Stop()
	settled := false
	for {
		s.mu.Lock()
		listened, blocked, stopped := s.listened, s.blocked, s.stopped
		s.mu.Unlock()
		serves := listened && (settled || s.sockets.Left() == 0)
		switch {
		case (serves || blocked) && !stopped:
			err := s.stopOld(ctx)
			s.mu.Lock()
			s.stopErr = err
			s.mu.Unlock()
			if err != nil {
				if ctx.Err() == nil {
					s.emit(RestartEvent{Kind: RestartBoth, Err: err})
				}
				return
			}
			continue
		case serves:
			s.sockets.Close()
			s.emit(RestartEvent{Kind: RestartDone, Took: time.Since(s.began)})
			return
		}
		select {
		case <-s.heard:
			settle.Reset(settleMost)
		case <-settle.C:
			settled = true
		case <-ctx.Done():
			return
		}
	}
}
