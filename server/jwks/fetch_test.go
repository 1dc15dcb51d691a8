package jwks

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"rowcast/server/auth"
	"rowcast/server/auth/authtest"
	"rowcast/server/metrics"
)

// fetchOnce fetches over the real network of this machine.
func fetchOnce(t *testing.T, url string) error {
	t.Helper()
	k := New(Options{URLs: []string{url}, Metrics: metrics.New(), Logger: slog.New(slog.DiscardHandler)})
	err := k.Fetch(t.Context())
	if sets, _ := k.Keys(); (err == nil) != (len(sets) == 1) {
		t.Errorf("%s: %d sets and %v", url, len(sets), err)
	}
	return err
}

// Redirects are followed on the host that was named, and to no other: there, anybody could serve keys.
func TestRedirects(t *testing.T) {
	t.Parallel()
	body := authtest.Set(authtest.Load(t, "rsa", "k").JWK(nil))
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		t.Error("the other host was asked")
		_, _ = io.WriteString(w, body)
	}))
	t.Cleanup(elsewhere.Close)
	mux := http.NewServeMux()
	mux.HandleFunc("/keys", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" || r.Header.Get("Cookie") != "" {
			t.Error("something was sent along")
		}
		_, _ = io.WriteString(w, body) // with a Content-Type that is not JSON's
	})
	for from, to := range map[string]string{
		"/moved": "/keys", "/loop": "/loop", "/other": elsewhere.URL + "/keys", "/scheme": "https://127.0.0.1:1/keys", "/file": "file:///etc/passwd",
	} {
		mux.Handle(from, http.RedirectHandler(to, http.StatusFound))
	}
	mux.HandleFunc("/long", func(w http.ResponseWriter, _ *http.Request) {
		for {
			if _, err := io.WriteString(w, strings.Repeat(" ", 64<<10)); err != nil {
				return
			}
		}
	})
	mux.HandleFunc("/cut", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100000")
		_, _ = io.WriteString(w, body)
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	for path, want := range map[string]string{
		"/keys": "", "/moved": "", "/loop": "more than 3 redirects", "/other": "redirected to http://127.0.0.1", "/scheme": "redirected to https://127.0.0.1:1",
		"/file": "redirected to file://", "/long": "longer than", "/cut": "unexpected EOF", "/none": "answered 404",
	} {
		err := fetchOnce(t, server.URL+path)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
}

// endless is a body without end, which knows how much of it was taken.
type endless struct{ taken int }

func (e *endless) Read(p []byte) (int, error) {
	e.taken += len(p)
	return copy(p, strings.Repeat(" ", len(p))), nil
}

func (e *endless) Close() error { return nil }

// What goes over the network is no more than can be a key set, and goes by https as the operator said.
func TestFetchesStayWithinBounds(t *testing.T) {
	t.Parallel()
	p, body := &provider{}, &endless{}
	p.will(func(r *http.Request) (*http.Response, error) {
		if r.URL.Path == "/moved" {
			return &http.Response{StatusCode: http.StatusFound, Header: http.Header{"Location": {"http://issuer.example/jwks"}}, Body: http.NoBody, Request: r}, nil
		}
		return &http.Response{StatusCode: http.StatusOK, Body: body, Request: r}, nil
	})
	for url, want := range map[string]string{address: "longer than", "https://issuer.example/moved": "redirected to http://issuer.example"} {
		k := New(Options{URLs: []string{url}, Transport: p, Metrics: metrics.New(), Logger: slog.New(slog.DiscardHandler)})
		if err := k.Fetch(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", url, err, want)
		}
	}
	if body.taken > 2*auth.MaxKeySetBytes || p.count() != 2 {
		t.Errorf("%d bytes were taken, in %d requests", body.taken, p.count())
	}
}

// A server whose certificate nobody vouches for is not believed.
func TestCertificatesAreChecked(t *testing.T) {
	t.Parallel()
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		t.Error("the request was made")
	}))
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	t.Cleanup(server.Close)
	if err := fetchOnce(t, server.URL); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("fetched with %v", err)
	}
}

func TestCheckURL(t *testing.T) {
	t.Parallel()
	for text, good := range map[string]bool{
		"https://issuer.example/.well-known/jwks.json": true, "https://issuer.example:8443/a?b=c": true, "http://localhost:9999/jwks": true,
		"http://127.0.0.1/": true, "http://127.8.7.6:1/": true, "http://[::1]:80/": true,
		"http://issuer.example/jwks": false, "http://localhost.issuer.example/": false, "http://127.0.0.1.issuer.example/": false, "http://0.0.0.0/": false,
		"http://10.0.0.1/": false, "http://LOCALHOST@issuer.example/": false, "https://user@issuer.example/": false, "https://u:p@issuer.example/": false,
		"ftp://issuer.example/": false, "file:///etc/passwd": false, "issuer.example": false, "//issuer.example/": false, "https://": false, "https:///x": false, "": false, "%": false,
	} {
		if err := CheckURL(text); (err == nil) != good {
			t.Errorf("%q: %v", text, err)
		}
	}
}
