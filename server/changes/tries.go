package changes

import "time"

// tries counts how often something was tried in vain.
type tries struct {
	failures  int // in a row
	refusals  int // of these, in a batch that Postgres could have answered
	looks     int
	since     time.Time // when transactions began to be waited for
	mentioned time.Time
}

const (
	// longInvisible is when it is worth a word that a transaction is not visible: as a rule it takes milliseconds, but a
	// synchronous standby that is away holds it up for as long as that lasts.
	longInvisible = 5 * time.Second
	// minPause and maxPause are between attempts while the database does not answer.
	minPause, maxPause = 50 * time.Millisecond, 2 * time.Second
)

func (t *tries) seen() { t.looks, t.since = 0, time.Time{} }

// invisible is how long to wait for transactions that others do not see yet.
func (t *tries) invisible(l *loop) time.Duration {
	now := time.Now()
	if t.looks++; t.looks == 1 {
		t.since, t.mentioned = now, now
	}
	if now.Sub(t.mentioned) >= longInvisible {
		t.mentioned = now
		l.Logger.Warn("a transaction was committed, but others do not see it yet: is a synchronous standby away?", "for", now.Sub(t.since))
	}
	return backOff(retryFirst, retryLast, t.looks-1)
}

// failed is how long to wait for a database that does not answer.
func (t *tries) failed(l *loop, what string, err error) time.Duration {
	if t.failures++; t.failures == 1 {
		l.Logger.Warn("postgres changes wait for the database", "to", what, "err", err)
	}
	return backOff(minPause, maxPause, t.failures-1)
}

func (t *tries) worked(l *loop) {
	if t.failures > 0 {
		l.Logger.Info("postgres changes go on")
	}
	t.failures, t.refusals = 0, 0
	l.suspects.found = 0
}

// backOff is how long to wait after so many failures before: twice as long each time.
func backOff(first, last time.Duration, failures int) time.Duration {
	return min(first<<min(failures, 10), last)
}
