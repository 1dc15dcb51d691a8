package changes

import (
	"cmp"
	"context"
	"time"

	"rowcast/server/snapshot"
	"rowcast/server/wal"
)

// loop is the one goroutine that knows who wants what, and judges. All its fields belong to it, but for what guards itself.
type loop struct {
	*Options
	ctx       context.Context
	mail      *mailbox
	inbox     inbox
	interests interests

	subs    map[*Subscription]struct{}
	seated  map[*Subscription]struct{} // of these, those whose entries are good
	ready   []*Subscription            // of these, those that are not told of anything yet
	rows    int                        // of these, those for whom views are kept
	checks  checks
	sources map[*wal.Relation]*source
	stream  streaming
	views   views
	reads   reads
	dirty   bool // what is wanted has changed, and the stream's goroutine does not know

	batch    *batch      // under way; nil: none
	again    *time.Timer // when what could not be done is tried again; nil: it is not waited for
	tries    tries
	suspects suspects
	own      ownXIDs
	beaten   snapshot.Snapshot // what the last heartbeat saw
	unseen   []uint32          // transactions that the stream has come to, and who begins must see
}

// retryFirst and retryLast are between looks for transactions that the stream shows before others see them.
const retryFirst, retryLast = 300 * time.Microsecond, 5 * time.Millisecond

func (l *loop) init(o *Options, mail *mailbox) {
	l.Options, l.mail = o, mail
	l.lingerFor, l.turn = cmp.Or(l.lingerFor, lingerFor), cmp.Or(l.turn, turn)
	l.reads.init()
	l.subs, l.seated, l.sources = map[*Subscription]struct{}{}, map[*Subscription]struct{}{}, map[*wal.Relation]*source{}
	l.inbox.init()
	l.suspects.known = map[suspectOf]*suspect{}
}

func (l *loop) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	l.ctx = ctx
	l.views.init(l)
	for {
		select {
		case <-ctx.Done():
			l.checks.running.Wait()
			l.reads.running.Wait()
			l.stopStream()
			return nil
		case <-l.mail.some:
			for _, letter := range l.mail.take() {
				letter()
			}
		case <-l.inbox.some:
		}
		l.work()
	}
}

// work does what can be done: it begins what is ready, and judges what has come.
func (l *loop) work() {
	l.startChecks()
	l.publishInterest()
	if l.again != nil {
		return
	}
	l.begin()
	if l.again != nil {
		return
	}
	if l.batch == nil {
		l.batch = l.inbox.take()
	}
	if l.batch == nil {
		return
	}
	if !l.judge(l.batch) {
		return
	}
	end := l.batch.end
	l.batch = nil
	signal(l.inbox.some) // for what came meanwhile: its signal may have been taken while this had to be tried again
	if end != nil {
		l.streamEnded(end)
	}
}

// wake has work done again.
func (l *loop) wake() { signal(l.mail.some) }

// later posts a letter after a while.
func (l *loop) later(d time.Duration, letter func()) *time.Timer {
	return time.AfterFunc(d, func() { l.mail.post(letter) })
}

// retry has what could not be done tried again.
func (l *loop) retry(d time.Duration) {
	l.again = l.later(d, func() { l.again = nil })
}

// heard is called on the stream's goroutine when it has come to a place in the WAL.
func (l *loop) heard(at wal.LSN) {
	if at >= l.views.renewAt() {
		l.mail.post(l.renewViews)
	}
}
