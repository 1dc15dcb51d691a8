package api

import (
	"bufio"
	"encoding/json"
	"iter"
	"net/http"
)

// Session is a private channel as operators are told of it: what decides about it, and what it may do.
type Session struct {
	Topic    string          `json:"topic"`
	Subject  string          `json:"sub,omitempty"`
	Role     string          `json:"role"`
	Claims   json.RawMessage `json:"claims"`
	Headers  json.RawMessage `json:"headers"`
	Presence bool            `json:"presence"` // whether it asked about presence too
	Rights   Rights          `json:"rights"`
	InDoubt  bool            `json:"in_doubt"` // the rights are being asked about again
}

// Rights are those of one session.
type Rights struct {
	Broadcast Right `json:"broadcast"`
	Presence  Right `json:"presence"`
}

// Right is what one extension allows.
type Right struct {
	Receive bool `json:"receive"`
	Send    bool `json:"send"`
}

// listSessions answers with a line of JSON for each. They come as they are gone through, and are not kept: the list is
// of no single moment.
func listSessions(all func() iter.Seq[Session]) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/x-ndjson")
		out := bufio.NewWriter(w)
		lines := json.NewEncoder(out)
		for s := range all() {
			s.Headers = withoutToken(s.Headers)
			if lines.Encode(s) != nil { // whoever asked is gone
				return
			}
		}
		_ = out.Flush()
	}
}

// withoutToken takes away the header that carries a token: who reads the list is not to become everybody.
func withoutToken(headers json.RawMessage) json.RawMessage {
	var all map[string]json.RawMessage
	if json.Unmarshal(headers, &all) != nil {
		return json.RawMessage("{}")
	}
	delete(all, "x-api-key")
	kept, err := json.Marshal(all)
	if err != nil {
		return json.RawMessage("{}")
	}
	return kept
}
