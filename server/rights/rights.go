// Package rights finds out what the policies on realtime.messages depend on, has it watched where that is allowed, and
// knows which verdicts of Postgres count: those that were made when all of it was watched.
//
// It does not decide, and it does not hear: rows that change are the feed's, by triggers. What changes in the catalogs it
// notices by a digest, and where neither will do it has everybody decided again on a timer.
package rights

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"rowcast/server/metrics"
	"rowcast/server/postgres"
	"rowcast/server/snapshot"
)

const (
	// retryEvery is how soon the database is asked again after it could not say.
	retryEvery = time.Second
	// findTime bounds a discovery with all that it installs. Joins wait for it.
	findTime = 4 * time.Second
	// tidyEvery is far from any hurry: policies are dropped and made anew.
	tidyEvery = time.Minute
)

// Options of a Watcher.
type Options struct {
	Pool         *postgres.Pool
	Install      bool                       // triggers, where that is allowed
	PollEvery    time.Duration              // how often to look at the digest; 0: only when verdicts say so
	RecheckEvery time.Duration              // how long a pass of the timer takes; 0: there is none
	Active       func() bool                // whether this server may write to the database
	Publication  string                     // what it publishes is looked at too
	Published    func()                     // is told that it may be something else, which is nobody's right to a channel
	Changed      func(snapshot.Snapshot)    // has everybody decided again; what this snapshot sees may have been sent before the change
	Recheck      func(part, parts int) bool // has a part of everybody decided again without holding anything; false: not yet
	Logger       *slog.Logger
	Metrics      *metrics.Metrics
}

// Watcher keeps what was found out. Run does the work.
type Watcher struct {
	options Options
	wanted  chan struct{}         // holds one when a discovery is
	read    chan []int64          // relations that decisions have read, not all of them known
	said    string                // what trouble was logged last; the poll's own
	unaimed string                // why nobody could tell whom changes concern, as logged last; work's own
	known   map[string]dependency // by object, as logged; work's own
	failed  map[uint32]attempt    // tables that could not be watched, by oid; work's own
	left    map[uint32]bool       // tables that should not be watched any more and have to be, as logged; work's own

	mu     sync.Mutex     // guards all below
	public string         // the digest of what is published, as last seen
	state  found          // the last discovery
	next   *search        // a discovery that is wanted and has not begun; those who want one share it
	looked time.Time      // when a decision was last to say what it read
	seen   map[int64]bool // what decisions have said so, since the last discovery
	hidden bool           // there are functions of which it cannot be found out what they read
	unseen bool           // something is not noticed by itself
}

// found is what a discovery left behind.
type found struct {
	Digest string
	xid    snapshot.XID // what a verdict must have seen
}

// search is one discovery, for those who wait for it.
type search struct {
	done chan struct{}
	err  error // set before done
}

// New prepares a watcher.
func New(o Options) *Watcher {
	return &Watcher{
		options: o, wanted: make(chan struct{}, 1), read: make(chan []int64, 1), seen: map[int64]bool{},
		known: map[string]dependency{}, failed: map[uint32]attempt{}, left: map[uint32]bool{},
	}
}

// Run works until ctx ends.
func (w *Watcher) Run(ctx context.Context) {
	var group sync.WaitGroup
	group.Go(func() { w.work(ctx) })
	group.Go(func() { w.poll(ctx) })
	group.Go(func() { w.recheck(ctx) })
	group.Wait()
}

// Counts tells whether a verdict does. digest was read after it, by a snapshot of its own: so nothing that the verdict
// depends on was another than when all was last watched. seen is what the verdict saw: all that writers did who could
// not meet the triggers yet.
func (w *Watcher) Counts(digest string, seen snapshot.Snapshot) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.state.Digest == digest && seen.Sees(w.state.xid)
}

// Find waits until it was found out once more what policies depend on, and all is watched that may be.
func (w *Watcher) Find(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, findTime)
	defer cancel()
	w.mu.Lock()
	s := w.next
	if s == nil {
		s = &search{done: make(chan struct{})}
		w.next = s
		w.wanted <- struct{}{} // has room: there was no search to begin
	}
	w.mu.Unlock()
	select {
	case <-s.done:
		return s.err
	case <-ctx.Done():
		return fmt.Errorf("wait for what policies depend on: %w", ctx.Err())
	}
}

// work makes discoveries, one at a time.
func (w *Watcher) work(ctx context.Context) {
	tidy := time.NewTicker(tidyEvery)
	defer tidy.Stop()
	for {
		var again <-chan time.Time
		if wait, ok := w.nextAttempt(); ok {
			again = time.After(wait)
		}
		select {
		case <-ctx.Done():
			return
		case relations := <-w.read:
			w.note(ctx, relations)
		case <-tidy.C:
			w.tidy(ctx)
		case <-again:
			if err := w.find(ctx); err != nil {
				w.options.Logger.Debug("tables not tried again", "err", err)
				w.putOff()
			}
		case <-w.wanted:
			w.mu.Lock()
			s := w.next
			w.next = nil
			w.mu.Unlock()
			s.err = w.find(ctx)
			close(s.done)
		}
	}
}

// poll looks at the digest. Until it was found out for the first time, what the digest is of, it looks often.
func (w *Watcher) poll(ctx context.Context) {
	for {
		w.look(ctx)
		wait := w.options.PollEvery
		if w.digest() == "" {
			wait = cmp.Or(min(wait, retryEvery), retryEvery)
		}
		var next <-chan time.Time
		if wait > 0 {
			next = time.After(wait)
		}
		select {
		case <-ctx.Done():
			return
		case <-next:
		}
	}
}

func (w *Watcher) digest() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.state.Digest
}

// look is a Look of the poll's: nobody waits for it.
func (w *Watcher) look(ctx context.Context) {
	switch err := w.Look(ctx); {
	case ctx.Err() != nil:
	case err == nil:
		w.said = ""
	case w.said != err.Error():
		w.said = err.Error()
		w.options.Logger.Warn("not found out what policies depend on", "err", err)
	}
}

// Look compares the digest once, and has done what follows: when it returns nil, everybody has been marked to be asked again
// whose rights may go by what has changed in the catalogs before.
func (w *Watcher) Look(ctx context.Context) error {
	if !w.options.Active() {
		return nil // nobody is admitted by this server
	}
	read, err := readDigests(ctx, w.options.Pool, w.options.Publication)
	if err != nil {
		return err
	}
	w.publish(read.Published)
	if read.Rights == w.digest() {
		return nil
	}
	return w.Find(ctx)
}

// publish passes on that something else is published than before.
func (w *Watcher) publish(digest string) {
	w.mu.Lock()
	changed := w.public != digest
	w.public = digest
	w.mu.Unlock()
	if changed {
		w.options.Published()
	}
}

// Apply is a Look for who promises that everything has been applied: what nobody would notice but the timer is asked about too.
func (w *Watcher) Apply(ctx context.Context) error {
	if err := w.Look(ctx); err != nil {
		return err
	}
	if w.needsTimer() {
		w.options.Changed(snapshot.Snapshot{})
	}
	return nil
}
