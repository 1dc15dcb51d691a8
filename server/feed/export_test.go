package feed

import (
	"time"

	"rowcast/server/postgres"
)

// LimitFetches spares tests the usual time.
func (o *Options) LimitFetches(l postgres.Limits) { o.fetchLimits = l }

// LimitWarmUp does so for a stream that does not come to lead.
func (o *Options) LimitWarmUp(d time.Duration) { o.warmUp = d }

// HearForTest is what the listener calls.
func (f *Feed) HearForTest(payload string) {
	f.hear(payload)
	f.inbox = f.inbox[:0]
}
