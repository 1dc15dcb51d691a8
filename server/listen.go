package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"

	"rowcast/server/printable"
	"rowcast/server/protocol"
	"rowcast/server/socket"
)

const (
	// listenHeartbeat is how often clients speak so that the server does not take them for gone.
	listenHeartbeat = 25 * time.Second
	// listenMaxFrame is well above what a server sends with its usual limits.
	listenMaxFrame = 16 << 20
	// listenDial bounds the handshake.
	listenDial = 10 * time.Second
)

// References of what this client sends; replies repeat them.
const (
	refJoin      protocol.Ref = `"1"`
	refHeartbeat protocol.Ref = `"heartbeat"`
)

func runListen(ctx context.Context, args []string, std stdio) error {
	flags := newFlags("listen [URL] --topic NAME --token T [--private]", `Joins a channel of the server at URL (default http://localhost:4000), as any client does, and prints what it is
told, one line each, until Ctrl-C. Exit code 1: the server refused or ended the channel; the line says why.`, nil)
	topic := flags.String("topic", "", "the channel's `NAME`, such as room:1")
	token := flags.String("token", "", "a `JWT`; see rowcast token")
	private := flags.Bool("private", false, "join as a private channel, under the policies on realtime.messages")
	_, words, err := flags.parse(args, std.env)
	if err != nil {
		return err
	}
	server := "http://localhost:4000"
	switch {
	case len(words) > 1:
		return usagef("want one URL, got %d; see rowcast listen --help", len(words))
	case *topic == "" || *token == "":
		return usagef("give --topic and --token; see rowcast listen --help")
	case len(words) == 1:
		server = words[0]
	}
	address, err := socketAddress(server, *token)
	if err != nil {
		return err
	}
	dialing, cancel := context.WithTimeout(ctx, listenDial)
	defer cancel()
	client, err := socket.Dial(dialing, address, listenMaxFrame)
	if err != nil {
		return fmt.Errorf("connect to %s: %w", server, err)
	}
	defer client.Close()
	l := &listener{client: client, topic: protocol.TopicPrefix + *topic, name: *topic, out: std.out}
	if err := l.join(ctx, *token, *private); err != nil {
		return err
	}
	err = l.listen(ctx)
	if ctx.Err() != nil {
		return nil // Ctrl-C
	}
	return err
}

// socketAddress is where the socket of a server is, given as the official client is given it: the server's address alone.
func socketAddress(server, token string) (string, error) {
	u, err := url.Parse(server)
	if err != nil || u.Host == "" {
		return "", usagef("%q is no URL: want one such as http://localhost:4000", server)
	}
	switch u.Scheme {
	case "http", "ws":
		u.Scheme = "ws"
	case "https", "wss":
		u.Scheme = "wss"
	default:
		return "", usagef("%q is no URL of a server: want http:// or https://", server)
	}
	if !strings.HasSuffix(u.Path, "/websocket") {
		u = u.JoinPath("realtime/v1/websocket")
	}
	u.RawQuery = url.Values{"vsn": {protocol.V2.String()}, "apikey": {token}}.Encode()
	return u.String(), nil
}

// listener is one channel of a client that only listens.
type listener struct {
	client *socket.Client
	topic  string // as on the wire
	name   string
	out    io.Writer
	said   string // the last error that the server told
}

func (l *listener) join(ctx context.Context, token string, private bool) error {
	return l.push(ctx, refJoin, refJoin, l.topic, protocol.EventJoin, map[string]any{
		"config": map[string]any{
			"private":   private,
			"broadcast": map[string]any{"self": true, "ack": false},
			"presence":  map[string]any{"enabled": false},
		},
		"access_token": token,
	})
}

// push sends a message: [join_ref, ref, topic, event, payload].
func (l *listener) push(ctx context.Context, joinRef, ref protocol.Ref, topic, event string, payload map[string]any) error {
	opaque := func(r protocol.Ref) json.RawMessage {
		if r == "" {
			return json.RawMessage("null")
		}
		return json.RawMessage(r)
	}
	data, err := json.Marshal([]any{opaque(joinRef), opaque(ref), topic, event, payload})
	if err != nil {
		return fmt.Errorf("encode %s: %w", event, err)
	}
	if err := l.client.Write(ctx, data); err != nil {
		return fmt.Errorf("send %s: %w", event, err)
	}
	return nil
}

// listen prints until the channel, the socket or ctx ends.
func (l *listener) listen(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go l.beat(ctx, cancel)
	for {
		binary, data, err := l.client.Read(ctx)
		if err != nil {
			if cause := context.Cause(ctx); cause != nil {
				return cause
			}
			return err
		}
		m, err := protocol.DecodeServer(binary, data)
		if err != nil {
			return fmt.Errorf("read what the server sent: %w", err)
		}
		if m.Topic == protocol.HeartbeatTopic {
			continue
		}
		if err := l.hear(m); err != nil {
			return err
		}
	}
}

// beat keeps the socket from being taken for dead.
func (l *listener) beat(ctx context.Context, cancel context.CancelCauseFunc) {
	tick := time.NewTicker(listenHeartbeat)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if err := l.push(ctx, "", refHeartbeat, protocol.HeartbeatTopic, protocol.EventHeartbeat, map[string]any{}); err != nil {
				cancel(err)
				return
			}
		}
	}
}

// heard is what of a payload is of interest, whatever the event.
type heard struct {
	Status   string          // of a reply and of a system message
	Message  string          // of a system message
	Event    string          // of a broadcast in text form
	Payload  json.RawMessage // of the same
	Response struct{ Reason string }
}

// hear prints one message. The error is what ended the channel.
func (l *listener) hear(m protocol.Message) error {
	var h heard
	if m.Push == nil {
		if err := json.Unmarshal(m.Payload, &h); err != nil {
			return l.print(m.Event, string(m.Payload)) // of a shape that is none of ours
		}
	}
	switch m.Event {
	case protocol.EventReply:
		switch {
		case m.Ref != refJoin:
			return nil
		case h.Status != protocol.StatusOK:
			return fmt.Errorf("the server refused %s: %s", l.name, printable.Text(h.Response.Reason))
		}
		return l.print("joined", l.name)
	case protocol.EventBroadcast:
		if m.Push != nil && m.Push.Encoding == protocol.Binary {
			return l.print(m.Event, fmt.Sprintf("%s %x", m.Push.Event, m.Push.Payload))
		} else if m.Push != nil {
			return l.print(m.Event, m.Push.Event+" "+string(m.Push.Payload))
		}
		return l.print(m.Event, h.Event+" "+string(h.Payload))
	case protocol.EventSystem:
		if h.Status == protocol.StatusError {
			l.said = h.Message
		}
		return l.print(m.Event, h.Status+" "+h.Message)
	case protocol.EventClose, protocol.EventError:
		if l.said == "" {
			return fmt.Errorf("the server ended %s", l.name)
		}
		return fmt.Errorf("the server ended %s: %s", l.name, printable.Text(l.said))
	}
	return l.print(m.Event, string(m.Payload))
}

func (l *listener) print(what, text string) error {
	if _, err := fmt.Fprintln(l.out, what, printable.Text(text)); err != nil {
		return fmt.Errorf("print %s: %w", what, err)
	}
	return nil
}
