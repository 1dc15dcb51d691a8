package api

import (
	"crypto/sha256"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// budget is so much of something that all requests share.
type budget struct {
	limit int64
	used  atomic.Int64
}

// take takes n, or nothing where it is not there.
func (b *budget) take(n int) bool {
	if b.used.Add(int64(n)) > b.limit {
		b.used.Add(-int64(n))
		return false
	}
	return true
}

func (b *budget) give(n int) { b.used.Add(-int64(n)) }

// maxCallers is how many callers' rates are remembered before the older half is forgotten.
const maxCallers = 20000

// rates is a token bucket for each caller: its subject, or its role where the token names nobody. A token without a subject
// is one key for many, such as that of a web page; what else a request says, and the address it comes from, a stranger
// changes at will. So those share one bucket, and a noisy one among them is the others' loss, not everybody's.
type rates struct {
	perSecond int // 0: no limit

	mu            sync.Mutex // guards all below
	recent, older map[callerKey]*rate.Limiter
}

// callerKey is of one size, however long a subject is.
type callerKey [sha256.Size]byte

func newRates(perSecond int) *rates {
	return &rates{perSecond: perSecond, recent: map[callerKey]*rate.Limiter{}}
}

func (c *call) key() callerKey {
	if c.claims.Subject != "" {
		return sha256.Sum256([]byte("sub " + c.claims.Subject))
	}
	return sha256.Sum256([]byte("role " + c.claims.Role))
}

func (r *rates) of(key callerKey) *rate.Limiter {
	r.mu.Lock()
	defer r.mu.Unlock()
	bucket := r.recent[key]
	if bucket != nil {
		return bucket
	}
	if len(r.recent) >= maxCallers/2 {
		r.older, r.recent = r.recent, map[callerKey]*rate.Limiter{}
	}
	if bucket = r.older[key]; bucket == nil {
		bucket = rate.NewLimiter(rate.Limit(r.perSecond), r.perSecond)
	}
	r.recent[key] = bucket
	return bucket
}

// take takes n messages from what the caller may still send.
func (r *rates) take(c *call, n int) bool {
	return r.perSecond == 0 || r.of(c.key()).AllowN(time.Now(), n)
}

// tell says in the headers of the answer what is left.
func (r *rates) tell(c *call) {
	if r.perSecond == 0 {
		return
	}
	left := max(0, int(r.of(c.key()).Tokens()))
	h := c.w.Header()
	h.Set("X-Rate-Limit", strconv.Itoa(r.perSecond))
	h.Set("X-Rate-Limit-Remaining", strconv.Itoa(left))
	h.Set("X-Rate-Rolling", strconv.Itoa(r.perSecond-left))
}
