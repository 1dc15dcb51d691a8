// Package jwks fetches the public keys that tokens are verified with from the addresses that the operator named, and
// keeps them fresh.
//
// It asks no other address: not those that a token names, and no other host that one of its own redirects to. What a key is
// good for, and which token it fits, package auth says.
package jwks

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"rowcast/server/auth"
	"rowcast/server/metrics"
)

const (
	// refreshEvery is how long a key that was withdrawn may go on to be accepted.
	refreshEvery = 5 * time.Minute
	// renewFloor spares the provider: anybody can send tokens that name keys which do not exist.
	renewFloor = 5 * time.Second
	// renewPatience is how long a client may have to wait for a key that is not there yet. A quick provider answers in a
	// tenth of it, and the socket reads nothing else meanwhile.
	renewPatience = time.Second
	// retryFirst and retryLast are the first and the longest pause after a failure; it doubles between them.
	retryFirst, retryLast = time.Second, time.Minute
	// maxAge is how long keys are used that could not be fetched again: a provider may be away for a night, but who can keep
	// us from it must not keep a withdrawn key good for ever.
	maxAge = 24 * time.Hour
)

// Options of a Fetcher.
type Options struct {
	URLs      []string
	Transport http.RoundTripper // nil: the network
	Logger    *slog.Logger
	Metrics   *metrics.Metrics
}

// Fetcher keeps what was fetched last from each address. It is an auth.KeySource.
type Fetcher struct {
	sources []*source
}

// source is one address.
type source struct {
	url     string
	client  *http.Client
	logger  *slog.Logger
	metrics *metrics.Metrics
	wake    chan struct{} // holds one wish for a fetch

	mu      sync.Mutex   // guards all below
	set     *auth.KeySet // nil: none yet
	body    []byte       // that it was read from
	since   time.Time    // when set was fetched; before the first time, when we began
	tried   time.Time    // when the last fetch began
	err     error        // of the last fetch; errNotYet before the first
	renewed chan struct{}
	tooOld  bool // set is, and that was logged
}

var (
	errNotYet   = errors.New("not fetched yet")
	errUnderWay = errors.New("being fetched")
	errTooOld   = fmt.Errorf("older than %s", maxAge)
)

// New prepares a Fetcher; Run does the work.
func New(o Options) *Fetcher {
	client := newClient(o.Transport)
	f := &Fetcher{}
	for _, url := range o.URLs {
		f.sources = append(f.sources, &source{
			url: url, client: client, logger: o.Logger, metrics: o.Metrics, wake: make(chan struct{}, 1), since: now(), err: errNotYet,
		})
	}
	return f
}

// now is the time of day: a machine that slept has older keys.
func now() time.Time { return time.Now().Round(0) }

// Run fetches until ctx ends.
func (f *Fetcher) Run(ctx context.Context) {
	var group sync.WaitGroup
	for _, s := range f.sources {
		group.Go(func() { s.run(ctx) })
	}
	group.Wait()
}

// Fetch fetches from every address once.
func (f *Fetcher) Fetch(ctx context.Context) error {
	errs := make([]error, len(f.sources))
	var group sync.WaitGroup
	for i, s := range f.sources {
		group.Go(func() {
			if err := s.refresh(ctx); err != nil {
				errs[i] = fmt.Errorf("fetch keys from %s: %w", s.url, err)
			}
		})
	}
	group.Wait()
	return errors.Join(errs...)
}

// Keys gives the sets that are not too old; lost says that one is.
func (f *Fetcher) Keys() (sets []*auth.KeySet, lost bool) {
	for _, s := range f.sources {
		s.mu.Lock()
		switch {
		case s.old():
			lost = true
		case s.set != nil:
			sets = append(sets, s.set)
		}
		s.mu.Unlock()
	}
	return sets, lost
}

// Renew has every address asked that was not asked just now, and waits for a moment; complete says that each answered when
// it was last asked.
func (f *Fetcher) Renew() (complete bool) {
	patience := time.NewTimer(renewPatience)
	defer patience.Stop()
	complete = true
	for _, s := range f.sources {
		select {
		case <-s.renew():
		case <-patience.C:
			return false
		}
		_, err := s.current()
		complete = complete && err == nil
	}
	return complete
}

// Ready tells why no token at all can be verified with these keys.
func (f *Fetcher) Ready(context.Context) error {
	var errs []error
	for _, s := range f.sources {
		set, err := s.current()
		if set != nil {
			return nil
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Age is the longest time that an address could not be fetched from.
func (f *Fetcher) Age() time.Duration {
	var oldest time.Duration
	for _, s := range f.sources {
		s.mu.Lock()
		oldest = max(oldest, now().Sub(s.since))
		s.mu.Unlock()
	}
	return oldest
}

// current gives the keys, nil if there are none or too old ones, and what was wrong with the last fetch.
func (s *source) current() (*auth.KeySet, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	set, err := s.set, s.err
	if s.old() {
		set, err = nil, cmp.Or(err, errTooOld)
	}
	if s.renewed != nil {
		err = cmp.Or(err, errUnderWay)
	}
	if err != nil {
		err = fmt.Errorf("fetch keys from %s: %w", s.url, err)
	}
	return set, err
}

// old tells whether the keys there are must not be used any more. mu is held.
func (s *source) old() bool { return s.set != nil && now().Sub(s.since) > maxAge }

// settled is the channel of a fetch that is over.
var settled = func() chan struct{} { c := make(chan struct{}); close(c); return c }()

// renew asks for a fetch and gives a channel that is closed when it is over. All who ask meanwhile share it.
func (s *source) renew() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.renewed != nil: // under way
	case now().Sub(s.tried) < renewFloor:
		return settled
	default:
		s.renewed = make(chan struct{})
		select {
		case s.wake <- struct{}{}:
		default: // a wish is there already
		}
	}
	return s.renewed
}

// run fetches at once, then from time to time, and when it is asked to.
func (s *source) run(ctx context.Context) {
	failed := 0
	for ctx.Err() == nil {
		wait := refreshEvery
		if s.refresh(ctx) == nil {
			failed = 0
		} else {
			wait = min(retryFirst<<min(failed, 10), retryLast)
			failed++
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-s.wake:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// refresh fetches once.
func (s *source) refresh(ctx context.Context) error {
	s.mu.Lock()
	s.tried = now()
	if s.renewed == nil {
		s.renewed = make(chan struct{})
	}
	select {
	case <-s.wake: // this is what was wished for
	default:
	}
	s.mu.Unlock()
	body, set, result, err := s.fetch(ctx)
	if ctx.Err() == nil {
		s.metrics.KeyRefreshes.WithLabelValues(result).Inc()
		s.tell(set, body, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err = err; err == nil {
		s.set, s.body, s.since, s.tooOld = set, body, now(), false
	} else if s.old() && !s.tooOld {
		s.tooOld = true
		s.logger.Error("keys are too old to be used", "url", s.url, "keys_of", s.since, "max_age", maxAge, "err", err)
	}
	close(s.renewed)
	s.renewed = nil
	return err
}
