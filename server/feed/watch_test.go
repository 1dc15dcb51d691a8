package feed

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// A connection that does not prove that it hears is given up, and one that says more than can be held; no other is.
func TestWhichConnectionsAreGivenUp(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		given bool
		begin func(f *Feed)
	}{
		"silent from the start": {true, func(f *Feed) { f.since = time.Now() }},
		"silent since a while":  {true, func(f *Feed) { f.since = time.Now(); f.lease.renew(time.Now(), 20*time.Second) }},
		"floods":                {true, func(f *Feed) { f.overflow = true }},
		"is being made":         {false, func(*Feed) {}},
		"hears":                 {false, func(f *Feed) { f.since = time.Now(); f.lease.renew(time.Now(), time.Hour) }},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := quiet()
				test.begin(f)
				ctx, giveUp := context.WithCancelCause(t.Context())
				defer giveUp(nil)
				ended := make(chan struct{})
				go func() { f.watch(ctx, giveUp); close(ended) }()
				select {
				case <-ended:
				case <-time.After(time.Minute):
				}
				if given := ctx.Err() != nil; given != test.given || given != (f.losses == 1) {
					t.Errorf("given up %t, want %t; %d losses", given, test.given, f.losses)
				}
			})
		})
	}
}
