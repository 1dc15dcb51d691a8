package jwks

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"rowcast/server/auth"
	"rowcast/server/auth/authtest"
	"rowcast/server/metrics"
	"rowcast/server/metrics/metricstest"
	"rowcast/server/protocol"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const address = "https://issuer.example/jwks"

// provider is an identity provider behind a network that does as it is told.
type provider struct {
	mu     sync.Mutex // guards all below
	answer func(*http.Request) (*http.Response, error)
	asked  []time.Time
}

func (p *provider) RoundTrip(r *http.Request) (*http.Response, error) {
	p.mu.Lock()
	p.asked = append(p.asked, time.Now())
	answer := p.answer
	p.mu.Unlock()
	return answer(r)
}

func (p *provider) will(answer func(*http.Request) (*http.Response, error)) {
	p.mu.Lock()
	p.answer = answer
	p.mu.Unlock()
}

// serves answers with these keys.
func (p *provider) serves(keys ...map[string]any) { p.says(http.StatusOK, authtest.Set(keys...)) }

func (p *provider) says(status int, body string) {
	p.will(func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: status, Body: io.NopCloser(strings.NewReader(body)), Header: http.Header{}}, nil
	})
}

var errAway = errors.New("no route to host")

func (p *provider) isAway() {
	p.will(func(*http.Request) (*http.Response, error) { return nil, errAway })
}

// hangs takes questions and never answers.
func (p *provider) hangs() {
	p.will(func(r *http.Request) (*http.Response, error) { <-r.Context().Done(); return nil, r.Context().Err() })
}

func (p *provider) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.asked)
}

// fetching is Keys that run, in a bubble.
type fetching struct {
	*Fetcher
	t       *testing.T
	p       *provider
	metrics *metrics.Metrics
	log     *bytes.Buffer
}

// bubble runs a test with keys that are being fetched from a provider.
func bubble(t *testing.T, prepare func(*provider), test func(f *fetching)) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &fetching{t: t, p: &provider{}, metrics: metrics.New(), log: &bytes.Buffer{}}
		prepare(f.p)
		f.Fetcher = New(Options{URLs: []string{address}, Transport: f.p, Metrics: f.metrics, Logger: slog.New(slog.NewTextHandler(f.log, nil))})
		ctx, cancel := context.WithCancel(t.Context())
		var group sync.WaitGroup
		group.Go(func() { f.Run(ctx) })
		synctest.Wait()
		test(f)
		cancel()
		group.Wait()
	})
}

// sleep lets time pass, and all that happens in it.
func sleep(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// verifier accepts what these keys signed, and nothing else.
func (f *fetching) verifier() *auth.Verifier {
	v, err := auth.NewVerifier(auth.VerifierOptions{Source: f.Fetcher, AllowedRoles: []string{"anon"}})
	if err != nil {
		f.t.Fatal(err)
	}
	return v
}

const claims = `{"role":"anon","exp":9999999999}`

func code(refused *auth.TokenError) protocol.Code {
	if refused == nil {
		return "accepted"
	}
	return refused.Code
}

// A key that is added is used, one that is withdrawn is not: after five minutes at the latest.
func TestKeysAreFetchedAgain(t *testing.T) {
	first, second := authtest.Load(t, "p256", "first"), authtest.Load(t, "rsa", "second")
	bubble(t, func(p *provider) { p.serves(first.JWK(nil)) }, func(f *fetching) {
		v := f.verifier()
		old, fresh := first.Token("ES256", claims), second.Token("RS256", claims)
		if _, refused := v.Verify(old); refused != nil {
			t.Fatal(refused)
		}
		if refused := v.Recheck(old); refused != nil {
			t.Fatal(refused)
		}
		f.p.serves(second.JWK(nil))
		sleep(refreshEvery - time.Second)
		if _, refused := v.Verify(old); refused != nil {
			t.Errorf("withdrawn, and nobody can know yet: %v", refused)
		}
		sleep(2 * time.Second)
		if got := code(v.Recheck(old)); got != auth.JwtSignerError {
			t.Errorf("withdrawn: %s", got)
		}
		if _, refused := v.Verify(old); code(refused) != auth.JwtSignerError {
			t.Errorf("withdrawn: %v", refused)
		}
		if _, refused := v.Verify(fresh); refused != nil {
			t.Errorf("added: %v", refused)
		}
		if n := metricstest.Value(t, f.metrics, "realtime_jwks_refreshes_total", resultOK); n != 2 {
			t.Errorf("%v refreshes", n)
		}
	})
}

// A token with a new key has it fetched at once; however many come, once; and not again for a while.
func TestUnknownKeysAreLookedForOnce(t *testing.T) {
	first, second := authtest.Load(t, "p256", "first"), authtest.Load(t, "rsa", "second")
	bubble(t, func(p *provider) { p.serves(first.JWK(nil)) }, func(f *fetching) {
		v := f.verifier()
		sleep(renewFloor)
		f.p.will(func(*http.Request) (*http.Response, error) {
			time.Sleep(200 * time.Millisecond)
			body := authtest.Set(first.JWK(nil), second.JWK(nil))
			return &http.Response{StatusCode: 200, Body: io.NopCloser(strings.NewReader(body))}, nil
		})
		var group sync.WaitGroup
		for range 50 {
			group.Go(func() {
				if _, refused := v.Verify(second.Token("RS256", claims)); refused != nil {
					t.Error(refused)
				}
			})
		}
		group.Wait()
		if n := f.p.count(); n != 2 {
			t.Errorf("asked %d times for 50 tokens with a new key, want once more than at the start", n)
		}
		invented := authtest.Load(t, "p256", "invented").Token("ES256", claims)
		before := time.Now()
		for range 1000 {
			if _, refused := v.Verify(invented); code(refused) != auth.JwtSignerError {
				t.Fatal(refused)
			}
		}
		if waited := time.Since(before); waited != 0 || f.p.count() != 2 {
			t.Errorf("1000 invented keys: waited %s, asked %d times", waited, f.p.count())
		}
		sleep(time.Minute)
		tooLong := authtest.Load(t, "p256", strings.Repeat("k", 257)).Token("ES256", claims)
		if _, refused := v.Verify(tooLong); code(refused) != auth.JwtSignerError || f.p.count() != 2 {
			t.Errorf("a name that no key has: %v, asked %d times", refused, f.p.count())
		}
		for range 600 { // for another minute, ten a second
			_, _ = v.Verify(invented)
			sleep(100 * time.Millisecond)
		}
		if n := f.p.count() - 2; n < 2 || n > int(time.Minute/renewFloor)+1 {
			t.Errorf("asked %d times in a minute of invented keys", n)
		}
	})
}

// Nobody waits for longer than a second for a provider that does not answer, and the refusal says that it passes.
func TestNobodyWaitsLongForKeys(t *testing.T) {
	key := authtest.Load(t, "p256", "k")
	bubble(t, (*provider).hangs, func(f *fetching) {
		v := f.verifier()
		for range 3 {
			before := time.Now()
			_, refused := v.Verify(key.Token("ES256", claims))
			if waited := time.Since(before); waited > renewPatience || code(refused) != auth.JwtKeysMissing || !refused.Passes() {
				t.Errorf("waited %s for %v", waited, refused)
			}
		}
		if f.Ready(t.Context()) == nil {
			t.Error("ready without a key")
		}
		f.p.serves(key.JWK(nil))
		sleep(fetchTimeout + retryFirst)
		if _, refused := v.Verify(key.Token("ES256", claims)); refused != nil || f.Ready(t.Context()) != nil {
			t.Errorf("once it answers: %v, %v", refused, f.Ready(t.Context()))
		}
	})
}

// After a failure it is tried again, ever more rarely; that is logged once, and its end too.
func TestProviderIsAway(t *testing.T) {
	bubble(t, (*provider).isAway, func(f *fetching) {
		start := time.Now()
		sleep(5 * time.Minute)
		var at []int
		for _, when := range f.p.asked {
			at = append(at, int(when.Sub(start).Seconds()))
		}
		if want := []int{0, 1, 3, 7, 15, 31, 63, 123, 183, 243}; !slices.Equal(at, want) {
			t.Errorf("asked after %v seconds, want %v", at, want)
		}
		if n := strings.Count(f.log.String(), "keys not fetched; trying again"); n != 1 || strings.Count(f.log.String(), "\n") != 1 {
			t.Errorf("logged:\n%s", f.log)
		}
		if n := metricstest.Value(t, f.metrics, "realtime_jwks_refreshes_total", resultUnreachable); n != float64(len(at)) {
			t.Errorf("%v refreshes counted", n)
		}
		f.p.serves(authtest.Load(t, "rsa", "k").JWK(nil))
		sleep(retryLast)
		if !strings.Contains(f.log.String(), `msg="keys fetched" url=`+address+" keys=1") {
			t.Errorf("logged:\n%s", f.log)
		}
	})
}

// Keys outlive an outage of a day, and no longer. What was admitted is not cut off by it.
func TestKeysGrowTooOld(t *testing.T) {
	key := authtest.Load(t, "p256", "k")
	bubble(t, func(p *provider) { p.serves(key.JWK(nil)) }, func(f *fetching) {
		v := f.verifier()
		token := key.Token("ES256", claims)
		f.p.isAway()
		sleep(maxAge - time.Minute)
		if _, refused := v.Verify(token); refused != nil {
			t.Errorf("after a day: %v", refused)
		}
		if age := f.Age(); age != maxAge-time.Minute {
			t.Errorf("age %s", age)
		}
		sleep(3 * time.Minute)
		if _, refused := v.Verify(token); code(refused) != auth.JwtKeysMissing {
			t.Errorf("after more than a day: %v", refused)
		}
		if refused := v.Recheck(token); refused == nil || !refused.Passes() {
			t.Errorf("rechecked: %v", refused)
		}
		if f.Ready(t.Context()) == nil {
			t.Error("ready with keys that are not used")
		}
		sleep(time.Hour)
		if n := strings.Count(f.log.String(), "keys are too old to be used"); n != 1 {
			t.Errorf("logged %d times:\n%s", n, f.log)
		}
		f.p.serves(key.JWK(nil))
		sleep(retryLast)
		if _, refused := v.Verify(token); refused != nil || !strings.Contains(f.log.String(), "keys are fetched again") {
			t.Errorf("fetched again: %v\n%s", refused, f.log)
		}
	})
}

// A key that was withdrawn is so for those whom it let in, also while another address is away or a fetch takes its time, as
// strangers can have it do. Who comes now is told to try again: a key may be new.
func TestWithdrawnKeysAreNotAwaited(t *testing.T) {
	key, other := authtest.Load(t, "p256", "k"), authtest.Load(t, "rsa", "other")
	bubble(t, func(p *provider) { p.serves(key.JWK(nil)) }, func(f *fetching) {
		v := f.verifier()
		token := key.Token("ES256", claims)
		if _, refused := v.Verify(token); refused != nil {
			t.Fatal(refused)
		}
		f.p.serves(other.JWK(nil))
		sleep(refreshEvery + renewFloor)
		f.p.hangs()
		for _, moment := range []string{"a fetch is under way", "it has failed"} {
			if _, refused := v.Verify(token); code(refused) != auth.JwtKeysMissing {
				t.Errorf("who comes while %s: %v", moment, refused)
			}
			if got := code(v.Recheck(token)); got != auth.JwtSignerError {
				t.Errorf("who is in while %s: %s", moment, got)
			}
			sleep(fetchTimeout - renewPatience)
		}
		if _, refused := v.Verify(other.Token("RS256", claims)); refused != nil {
			t.Errorf("the key that is still good: %v", refused)
		}
	})
}

// What an answer is not, is not used; what was there before is.
func TestBadAnswers(t *testing.T) {
	key := authtest.Load(t, "p256", "k")
	bubble(t, func(p *provider) { p.serves(key.JWK(nil)) }, func(f *fetching) {
		v := f.verifier()
		for _, tt := range []struct {
			status int
			body   string
			result string
		}{
			{500, authtest.Set(key.JWK(nil)), resultStatus},
			{404, "<html>", resultStatus},
			{204, "", resultStatus},
			{200, "", resultUnusable},
			{200, "<html>", resultUnusable},
			{200, authtest.Set(), resultUnusable},
			{200, authtest.Set(key.JWK(map[string]any{"d": "AQAB"})), resultUnusable},
			{200, `{"keys":[` + strings.Repeat(" ", auth.MaxKeySetBytes) + `]}`, resultUnusable},
		} {
			before := metricstest.Value(t, f.metrics, "realtime_jwks_refreshes_total", tt.result)
			f.p.says(tt.status, tt.body)
			sleep(refreshEvery + time.Second)
			if metricstest.Value(t, f.metrics, "realtime_jwks_refreshes_total", tt.result) == before {
				t.Errorf("%d %.20q is not counted as %s", tt.status, tt.body, tt.result)
			}
			if _, refused := v.Verify(key.Token("ES256", claims)); refused != nil {
				t.Errorf("after %d %.20q: %v", tt.status, tt.body, refused)
			}
			f.p.serves(key.JWK(nil))
			sleep(refreshEvery)
		}
	})
}

// Of several addresses each is good for what it has; a token may have any of their keys.
func TestSeveralAddresses(t *testing.T) {
	t.Parallel()
	first, second := authtest.Load(t, "p256", "k"), authtest.Load(t, "p521", "k") // the same kid, by chance
	synctest.Test(t, func(t *testing.T) {
		p := &provider{}
		p.will(func(r *http.Request) (*http.Response, error) {
			body := authtest.Set(first.JWK(nil))
			switch r.URL.Host {
			case "b.example":
				body = authtest.Set(second.JWK(nil))
			case "c.example":
				return nil, errAway
			}
			return &http.Response{StatusCode: 200, Body: io.NopCloser(strings.NewReader(body))}, nil
		})
		k := New(Options{URLs: []string{"https://a.example", "https://b.example", "https://c.example"}, Transport: p, Metrics: metrics.New(), Logger: slog.New(slog.DiscardHandler)})
		if err := k.Fetch(t.Context()); err == nil || err.Error() != "fetch keys from https://c.example: no route to host" {
			t.Errorf("fetched with %v", err)
		}
		v, err := auth.NewVerifier(auth.VerifierOptions{Source: k, AllowedRoles: []string{"anon"}})
		if err != nil {
			t.Fatal(err)
		}
		for alg, key := range map[string]authtest.Key{"ES256": first, "ES512": second} {
			if _, refused := v.Verify(key.Token(alg, claims)); refused != nil {
				t.Errorf("%s: %v", alg, refused)
			}
		}
		if _, refused := v.Verify(authtest.Load(t, "rsa", "elsewhere").Token("RS256", claims)); code(refused) != auth.JwtKeysMissing {
			t.Errorf("a key that may be where nobody answers: %v", refused)
		}
		if k.Ready(t.Context()) != nil {
			t.Error("not ready although two of three answer")
		}
	})
}
