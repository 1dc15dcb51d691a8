package jwks

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"rowcast/server/auth"
)

// How a fetch ended: the label of realtime_jwks_refreshes_total.
const (
	resultOK          = "ok"
	resultUnreachable = "unreachable" // no answer, not a whole one, or a redirect to elsewhere
	resultStatus      = "bad_status"  // an answer other than 200
	resultUnusable    = "unusable"    // no key set, or none with a usable key
)

const (
	// fetchTimeout bounds a fetch from the name's look-up to the last byte.
	fetchTimeout = 10 * time.Second
	// maxRedirects is for providers that have moved a path.
	maxRedirects = 3
)

// CheckURL refuses addresses from which keys must not be fetched: whoever can change what is fetched can sign tokens.
func CheckURL(text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		return errors.New("want addresses such as https://example.com/.well-known/jwks.json, separated by spaces")
	case u.User != nil:
		return errors.New("an address with a user or password in it is not asked: key sets are public")
	case u.Scheme == "http" && !isLoopback(u.Hostname()):
		return errors.New("want https: what is fetched over http anybody on the way can change; only localhost may be http")
	}
	return nil
}

func isLoopback(host string) bool { return host == "localhost" || net.ParseIP(host).IsLoopback() }

func newClient(transport http.RoundTripper) *http.Client {
	if transport == nil {
		transport = &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			DisableKeepAlives:      true, // the next fetch is minutes away
			ForceAttemptHTTP2:      true,
			MaxResponseHeaderBytes: 64 << 10,
		}
	}
	return &http.Client{Transport: transport, Timeout: fetchTimeout, CheckRedirect: sameHost}
}

// sameHost follows redirects no further than the host that the operator named.
func sameHost(to *http.Request, via []*http.Request) error {
	first := via[0].URL
	switch {
	case len(via) > maxRedirects:
		return fmt.Errorf("more than %d redirects", maxRedirects)
	case to.URL.Scheme != first.Scheme || to.URL.Host != first.Host:
		return fmt.Errorf("redirected to %s://%s: name the address itself", to.URL.Scheme, to.URL.Host)
	}
	return nil
}

func (s *source) fetch(ctx context.Context) (body []byte, set *auth.KeySet, result string, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url, nil)
	if err != nil {
		return nil, nil, resultUnreachable, err
	}
	request.Header.Set("Accept", "application/jwk-set+json, application/json")
	request.Header.Set("User-Agent", "rowcast")
	response, err := s.client.Do(request)
	if err != nil {
		var said *url.Error // it repeats the address
		if errors.As(err, &said) {
			err = said.Err
		}
		return nil, nil, resultUnreachable, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, nil, resultStatus, fmt.Errorf("answered %d", response.StatusCode)
	}
	if body, err = io.ReadAll(io.LimitReader(response.Body, auth.MaxKeySetBytes+1)); err != nil {
		return nil, nil, resultUnreachable, fmt.Errorf("read the answer: %w", err)
	}
	if set, err = auth.ParseKeySet(body, true); err != nil {
		return nil, nil, resultUnusable, err
	}
	return body, set, resultOK, nil
}

// tell logs what is new: the first failure of a row and its end, and keys that have changed.
func (s *source) tell(set *auth.KeySet, body []byte, err error) {
	s.mu.Lock()
	before, known, old := s.err, s.set != nil, s.body
	since := s.since
	s.mu.Unlock()
	switch {
	case err != nil && (before == nil || errors.Is(before, errNotYet)):
		s.logger.Warn("keys not fetched; trying again", "url", s.url, "err", err, "keys_of", since, "used_until", since.Add(maxAge), "have_keys", known)
	case err == nil && known && before != nil:
		s.logger.Info("keys are fetched again", "url", s.url)
	}
	if err != nil || bytes.Equal(body, old) {
		return
	}
	s.logger.Info("keys fetched", "url", s.url, "keys", set.Len())
	for _, note := range set.Notes {
		s.logger.Warn("key set", "url", s.url, "note", note)
	}
}
