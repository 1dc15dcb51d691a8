package channel

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"rowcast/server/auth"
	"rowcast/server/changes"
	"rowcast/server/hub"
	"rowcast/server/metrics"
	"rowcast/server/presence"
	"rowcast/server/protocol"
)

const fuzzSecret = "a secret of at least thirty-two bytes"

// newVerifier takes the tokens that are signed with it.
func newVerifier(t *testing.T) *auth.Verifier {
	t.Helper()
	verifier, err := auth.NewVerifier(auth.VerifierOptions{Secret: []byte(fuzzSecret), AllowedRoles: []string{"anon"}})
	if err != nil {
		t.Fatal(err)
	}
	return verifier
}

// heard collects what a session says.
type heard struct {
	mu     sync.Mutex // guards frames
	frames [][]byte
}

func (h *heard) Send(frame []byte) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.frames = append(h.frames, frame)
	return true
}

func (h *heard) Queue(frame []byte, void *atomic.Bool) bool {
	if !void.Load() {
		h.Send(frame)
	}
	return true
}

func (h *heard) Flush()                  {}
func (h *heard) WhenDrained(then func()) { then() }
func (h *heard) Disconnect()             {}

// messages takes everything apart that was said, as a client of version 2.0.0.
func (h *heard) messages(t *testing.T) (all []protocol.Message) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, frame := range h.frames {
		op, payload := frame[0], frame[2:]
		switch frame[1] {
		case 126:
			payload = frame[4:]
			if int(binary.BigEndian.Uint16(frame[2:])) != len(payload) {
				t.Fatalf("a frame of a wrong length: %q", frame)
			}
		case 127:
			payload = frame[10:]
			if binary.BigEndian.Uint64(frame[2:]) != uint64(len(payload)) {
				t.Fatalf("a frame of a wrong length: %q", frame)
			}
		default:
			if int(frame[1]) != len(payload) {
				t.Fatalf("a frame of a wrong length: %q", frame)
			}
		}
		var m protocol.Message
		var err error
		var part []json.RawMessage
		switch {
		case op == 0x82:
			m, err = protocol.DecodeServer(true, payload)
		case op != 0x81 || !utf8.Valid(payload) || json.Unmarshal(payload, &part) != nil || len(part) != 5:
			t.Fatalf("said %q", frame)
		default:
			m.JoinRef, m.Ref, m.Payload = protocol.Ref(part[0]), protocol.Ref(part[1]), part[4]
			m.Topic, _ = protocol.Text(part[2])
			m.Event, _ = protocol.Text(part[3])
		}
		if err != nil || m.Push == nil && !protocol.IsObject(m.Payload) {
			t.Fatalf("said %q: %v", frame, err)
		}
		all = append(all, m)
	}
	return all
}

// FuzzSession plays any frames to a session that shares a public channel with another. The session answers in whole frames, a
// few for each at most; the other hears broadcasts and who is present, and nothing that its client would choke on.
func FuzzSession(f *testing.F) {
	token, err := auth.Mint([]byte(fuzzSecret), auth.MintOptions{Subject: "u", Role: "anon", TTL: 1000 * time.Hour, Now: time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)})
	if err != nil {
		f.Fatal(err)
	}
	const joined = `["1","1","realtime:a","phx_join",{"config":{"broadcast":{"ack":true,"self":true}}}]` + "\n"
	for _, seed := range []string{
		"\x03\xff\xff\x0a\x01\x00\x00" + strings.Repeat("\x01", 255) + strings.Repeat("g", 255) + "realtime:ae", // longer references than text has
		joined + `["1","2","realtime:a","broadcast",{"event":"e","payload":{}}]` + "\n" + `["1","3","realtime:a","phx_leave",{}]`,
		joined + "\x03\x01\x01\x0a\x01\x02\x0113realtime:ae{}{\"a\":1}" + "\n" + "\x03\x01\x01\x0a\x01\x00\x0013realtime:ae\xff",
		joined + `["1","2","realtime:a","access_token",{"access_token":"` + token + `x"}]`,
		joined + `["1","2","realtime:a","access_token",{"access_token":null}]` + "\n" + `["1","3","realtime:a","presence",{}]`,
		`["1","1","realtime:p","phx_join",{"config":{"private":true}}]` + "\n" + `["1","2","realtime:p","phx_leave",{}]` + "\n" + `["3","3","realtime:p","phx_join",{}]`,
		joined + joined + `[null,null,"realtime:a","phx_close",{}]` + "\n" + `["1","4","realtime:a","broadcast",{"ids":[1]}]` + "\n" + `["1","5","realtime:a","broadcast",{"event":5}]`,
		`[null,"1","phoenix","heartbeat",{}]` + "\n" + `[]` + "\n" + `{}` + "\n\n" + "\x04" + "\n" + `["1","1","realtime:","phx_join",{}]`,
		joined + `["1","2","realtime:a","presence",{"event":"track","payload":{"phx_ref":1,"a":{}}}]` + "\n" + `["1","3","realtime:a","presence",{"event":"track"}]`,
		joined + `["1","2","realtime:a","presence",{"event":"Track","payload":[]}]` + "\n" + `["1","3","realtime:a","presence",{"event":"UNTRACK"}]`,
		`["1","1","realtime:a","phx_join",{"config":{"presence":{"enabled":true,"key":"\u0000\""}}}]` + "\n" + `["1","2","realtime:a","presence",{"event":"track"}]` + "\n" + `["1","3","realtime:a","phx_leave",{}]`,
		joined + `["1","2","realtime:a","broadcast",{"m\u0065ta":1}]` + "\n" + `["1","2","realtime:a","syst\u0065m",{"status":"ok"}]`,
		`["1","1","realtime:a","phx_join",{"config":{"postgres_changes":[{"event":"*","schema":"public","table":"t","filter":"id=in.(1,\"\u0000)"},{"select":"x"}]}}]` + "\n" + `["1","2","realtime:a","phx_leave",{}]`,
		`["1","1","realtime:a","phx_join",{"config":{"postgres_changes":[{"schema":"*"}]}}]` + "\n" + joined + `["1","2","realtime:a","access_token",{"access_token":"` + token + `"}]`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		synctest.Test(t, func(t *testing.T) { playSession(t, data, token) })
	})
}

func playSession(t *testing.T, data []byte, token string) {
	m := metrics.New()
	verifier := newVerifier(t)
	claims, refused := verifier.Verify(token)
	if refused != nil {
		t.Fatal(refused)
	}
	h := hub.New(hub.Options{Workers: 1, Metrics: m})
	defer h.Close()
	o := &Options{
		Changes: changes.New(changes.Options{Metrics: m, Logger: slog.New(slog.DiscardHandler)}), // it does not run: nobody is told how subscriptions fare
		Hub:     h, Presence: presence.NewRegistry(presence.Options{Hub: h, MaxBytes: 1 << 10, Metrics: m}), Verifier: verifier, Metrics: m, Logger: slog.New(slog.DiscardHandler),
		Decider:     auth.NewDecider(auth.DeciderOptions{Metrics: m}), // it does not run: private joins wait
		WhenHearing: func(func()) func() { return func() {} },
		Limits:      Limits{Channels: 5, JoinsPerSecond: 20, EventsPerSecond: 20, PayloadBytes: 1 << 10, WaitingBytes: 1 << 10},
	}
	open := func() (*Session, *heard) {
		said := &heard{}
		return NewSession(o, protocol.V2, Identity{Claims: claims, Token: token, Headers: "{}"}, said), said
	}
	other, victim := open()
	defer other.Close()
	other.Frame(false, []byte(`["v","v","realtime:a","phx_join",{"config":{"presence":{"enabled":true}}}]`))
	attacker, said := open()
	frames := bytes.Split(data, []byte("\n"))
	for _, frame := range frames {
		attacker.Frame(len(frame) > 0 && frame[0] < ' ', bytes.Clone(frame))
	}
	attacker.Close()
	synctest.Wait()
	answers := said.messages(t)
	if len(answers) > 4*len(frames) {
		t.Fatalf("%d frames were answered with %d", len(frames), len(answers))
	}
	for i, m := range victim.messages(t) {
		switch {
		case m.Topic != "realtime:a":
			t.Fatalf("another channel's: %+v", m)
		case i == 0 && m.Event == protocol.EventReply:
		case m.Event == protocol.EventPresenceState || m.Event == protocol.EventPresenceDiff:
			checkPresence(t, m)
		case m.Event != protocol.EventBroadcast:
			t.Fatalf("the other heard %s %s", m.Event, m.Payload)
		case m.Push != nil && (len(m.Push.Meta) > 0 || !utf8.ValidString(m.Push.Event) || m.Push.Encoding == protocol.JSON && !json.Valid(m.Push.Payload)):
			t.Fatalf("the other heard %+v", m.Push)
		case m.Push == nil && protocol.CheckBroadcast(m.Payload) != "":
			t.Fatalf("the other heard %s", m.Payload)
		case strings.Contains(string(m.JoinRef), "v"):
			t.Fatalf("under the other's own name: %+v", m)
		}
	}
}

// checkPresence wants what a client needs of presence: keys, each with metas that have a reference.
func checkPresence(t *testing.T, m protocol.Message) {
	t.Helper()
	type present map[string]struct{ Metas []map[string]any }
	var all []present
	if m.Event == protocol.EventPresenceState {
		all = make([]present, 1)
		if err := json.Unmarshal(m.Payload, &all[0]); err != nil {
			t.Fatalf("the other heard %s: %v", m.Payload, err)
		}
	} else {
		var diff struct{ Joins, Leaves present }
		if err := json.Unmarshal(m.Payload, &diff); err != nil || diff.Joins == nil || diff.Leaves == nil {
			t.Fatalf("the other heard %s: %v", m.Payload, err)
		}
		all = []present{diff.Joins, diff.Leaves}
	}
	for _, who := range all {
		for key, p := range who {
			for _, meta := range p.Metas {
				if ref, ok := meta["phx_ref"].(string); !ok || len(ref) != 16 || key == "ids" {
					t.Fatalf("the other heard %s", m.Payload)
				}
			}
			if len(p.Metas) == 0 {
				t.Fatalf("the other heard %s", m.Payload)
			}
		}
	}
}
