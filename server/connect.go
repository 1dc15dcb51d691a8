package main

import (
	"encoding/json"
	"iter"
	"net/http"
	"strings"

	"rowcast/server/api"
	"rowcast/server/auth"
	"rowcast/server/channel"
	"rowcast/server/protocol"
	"rowcast/server/socket"
)

// Reasons for which a handshake is refused, beside those of package socket and the codes of tokens.
const (
	refusedVersion   = "version"       // no wire version that this server speaks
	refusedNoToken   = "token_missing" // neither the header x-api-key nor the parameter apikey
	refusedHeaders   = "headers"       // the headers that policies may read are too long
	refusedNoLease   = "no_lease"      // the database could not be asked yet whether this server may serve
	refusedOtherNode = "other_node"    // another server serves this database
)

// opener decides about requests for a socket, and gives those it accepts a session.
type opener struct {
	verifier *auth.Verifier
	sessions *channel.Options
}

// open reads wire version and token. The token comes in the header x-api-key or, from browsers, in the query.
func (o opener) open(r *http.Request) (socket.Opener, *socket.Refusal) {
	query := r.URL.Query()
	version, ok := protocol.ParseVersion(query.Get("vsn"))
	if !ok {
		return nil, &socket.Refusal{Status: http.StatusForbidden, Message: "Unsupported protocol version", Reason: refusedVersion}
	}
	token := r.Header.Get("x-api-key")
	if token == "" {
		token = query.Get("apikey")
	}
	if token == "" {
		return nil, &socket.Refusal{Status: http.StatusUnauthorized, Message: "API key is missing", Reason: refusedNoToken}
	}
	claims, refused := o.verifier.Verify(token)
	if refused != nil {
		status := http.StatusUnauthorized
		if refused.Passes() {
			status = http.StatusServiceUnavailable
		}
		return nil, &socket.Refusal{Status: status, Message: refused.Handshake(), Reason: string(refused.Code)}
	}
	headers := policyHeaders(r.Header)
	if len(headers) > maxPolicyHeaders {
		return nil, &socket.Refusal{Status: http.StatusRequestHeaderFieldsTooLarge, Message: "Too many x-... headers", Reason: refusedHeaders}
	}
	identity := channel.Identity{Claims: claims, Token: token, Headers: headers}
	return func(c *socket.Conn) socket.Handler {
		identity.ConnID = c.ID()
		return sessionHandler{channel.NewSession(o.sessions, version, identity, c)}
	}, nil
}

// maxPolicyHeaders bounds what every socket keeps, and every question to the policies carries, of what its client said at
// the start: room for the longest token in x-api-key, and as much again.
const maxPolicyHeaders = 2 * auth.MaxTokenBytes

// policyHeaders are what policies read as request.headers: of the upgrade request, those that begin with x-.
func policyHeaders(h http.Header) string {
	return api.HeadersJSON(h, func(name string) bool { return strings.HasPrefix(name, "x-") })
}

// sessionHandler is a session as the socket wants it.
type sessionHandler struct{ *channel.Session }

// Closed ends the session with its socket.
func (h sessionHandler) Closed(socket.Reason) { h.Close() }

// sessions goes through the private channels, one socket after the other.
func (in *instance) sessions() iter.Seq[api.Session] {
	return func(yield func(api.Session) bool) {
		for _, conn := range in.sockets.All() {
			h, ok := conn.Handler().(sessionHandler)
			if !ok {
				continue
			}
			for _, s := range h.Standings() {
				if !yield(api.Session{
					Topic: s.Topic, Subject: s.Claims.Subject, Role: s.Claims.Role, Claims: s.Claims.Raw, Headers: json.RawMessage(s.Headers),
					Presence: s.Presence, InDoubt: s.InDoubt,
					Rights: api.Rights{Broadcast: api.Right(s.Rights.Broadcast), Presence: api.Right(s.Rights.Presence)},
				}) {
					return
				}
			}
		}
	}
}
