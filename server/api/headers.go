package api

import (
	"net/http"
	"strings"
)

// HeadersJSON is what policies read as request.headers: a JSON object of those headers that are wanted, by their names in
// lower case.
func HeadersJSON(h http.Header, wanted func(name string) bool) string {
	return string(encode(headerTexts(h, wanted)))
}

func headerTexts(h http.Header, wanted func(name string) bool) map[string]string {
	shown := map[string]string{}
	for name, values := range h {
		if name = strings.ToLower(name); wanted(name) {
			shown[name] = strings.ToValidUTF8(strings.Join(values, ", "), "\ufffd")
		}
	}
	return shown
}

// policyHeaders are all headers of a request over REST.
func policyHeaders(r *http.Request) string {
	shown := headerTexts(r.Header, func(string) bool { return true })
	shown["host"] = strings.ToValidUTF8(r.Host, "\ufffd") // which Go keeps apart
	return string(encode(shown))
}
