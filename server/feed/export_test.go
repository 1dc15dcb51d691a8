package feed

import "rowcast/server/postgres"

// LimitFetches spares tests the usual time.
func (o *Options) LimitFetches(l postgres.Limits) { o.fetchLimits = l }

// HearForTest is what the listener calls.
func (f *Feed) HearForTest(payload string) {
	f.hear(payload)
	f.inbox = f.inbox[:0]
}
