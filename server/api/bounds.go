package api

import (
	"crypto/sha256"
	"strconv"
	"sync"
	"sync/atomic"

	"rowcast/server/bucket"
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

// rates are token buckets for each caller: its subject, or its role where the token names nobody. A token without a subject
// is one key for many, such as that of a web page; what else a request says, and the address it comes from, a stranger
// changes at will. So those share one bucket, and a noisy one among them is the others' loss, not everybody's.
type rates struct {
	messages, bytes int // a second; 0: no limit

	mu            sync.Mutex // guards all below
	recent, older map[callerKey]*caller
}

// caller is what one may still send.
type caller struct{ messages, bytes bucket.Bucket }

// callerKey is of one size, however long a subject is.
type callerKey [sha256.Size]byte

func newRates(messages, bytes int) *rates {
	return &rates{messages: messages, bytes: bytes, recent: map[callerKey]*caller{}}
}

func (c *call) key() callerKey {
	if c.claims.Subject != "" {
		return sha256.Sum256([]byte("sub " + c.claims.Subject))
	}
	return sha256.Sum256([]byte("role " + c.claims.Role))
}

func (r *rates) of(key callerKey) *caller {
	r.mu.Lock()
	defer r.mu.Unlock()
	found := r.recent[key]
	if found != nil {
		return found
	}
	if len(r.recent) >= maxCallers/2 {
		r.older, r.recent = r.recent, map[callerKey]*caller{}
	}
	if found = r.older[key]; found == nil {
		found = &caller{bucket.New(r.messages), bucket.New(r.bytes)}
	}
	r.recent[key] = found
	return found
}

// take takes n messages from what the caller may still send.
func (r *rates) take(c *call, n int) bool { return r.of(c.key()).messages.Take(n) }

// takeBody takes the bytes of a request, which may be more than a second's worth, if no other came just before.
func (r *rates) takeBody(c *call, body []byte) bool { return r.of(c.key()).bytes.TakeAny(len(body)) }

// tell says in the headers of the answer what is left.
func (r *rates) tell(c *call) {
	if r.messages == 0 {
		return
	}
	left := r.of(c.key()).messages.Left()
	h := c.w.Header()
	h.Set("X-Rate-Limit", strconv.Itoa(r.messages))
	h.Set("X-Rate-Limit-Remaining", strconv.Itoa(left))
	h.Set("X-Rate-Rolling", strconv.Itoa(r.messages-left))
}
