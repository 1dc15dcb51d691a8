package channel

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"rowcast/server/hub"
	"rowcast/server/metrics/metricstest"
	"rowcast/server/protocol"
)

// waitsForChanges is what a join says that is not to be answered before changes are subscribed to.
const waitsForChanges = `{"config":{"postgres_changes":[{"event":"*","schema":"public","table":"t"}],"broadcast":{"ack":true},"postgres_changes_options":{"wait":true,"timeout":4000}}}`

// awaitingChanges is a session with a channel whose join waits for changes.
func awaitingChanges(t *testing.T, version protocol.Version, client Sender) (*Session, *Channel) {
	t.Helper()
	s, c := asksForChanges(t, version, client, waitsForChanges)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.awaits == nil {
		t.Fatal("the join does not wait for changes")
	}
	return s, c
}

// eachVersion plays something in a bubble on both wire versions.
func eachVersion(t *testing.T, play func(t *testing.T, version protocol.Version)) {
	for _, version := range []protocol.Version{protocol.V1, protocol.V2} {
		t.Run(version.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { play(t, version) })
		})
	}
}

// saw are the frames of the client that hold these texts, one each and no others.
func (t *told) saw(test *testing.T, texts ...string) {
	test.Helper()
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, f := range t.frames {
		if i >= len(texts) || !strings.Contains(f, texts[i]) {
			test.Fatalf("frame %d of %q", i, t.frames)
		}
	}
	if len(t.frames) != len(texts) {
		test.Fatalf("told %q", t.frames)
	}
}

// A join that waits is answered when changes are subscribed to. What is to be known of them comes behind the answer, and what was
// sent on the topic before that is not for who had not joined.
func TestJoinWaitsForChanges(t *testing.T) {
	t.Parallel()
	eachVersion(t, func(t *testing.T, version protocol.Version) {
		client := &told{}
		s, c := awaitingChanges(t, version, client)
		s.Hub.Publish(hub.Publication{Room: c.room, Frame: protocol.TextBroadcast("realtime:a", []byte(`{"n":"before"}`))})
		c.Missed(hub.LossDropped)
		changesMember{c}.Notice(protocol.PostgresChangesWithheld, "a grant")
		changesMember{c}.Notice(protocol.PostgresChangesUnavailable, protocol.TextChangesSlotWaits)
		time.Sleep(4*time.Second - 1)
		synctest.Wait()
		client.saw(t)
		changesMember{c}.Notice("", protocol.TextSubscribed)
		changesMember{c}.Deliver(change)
		s.Hub.Publish(hub.Publication{Room: c.room, Frame: protocol.TextBroadcast("realtime:a", []byte(`{"n":"after"}`))})
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		client.saw(t, `"ok"`, protocol.TextMessageDropped, "PostgresChangesWithheld: a grant", protocol.TextSubscribed, `{"ids":[1]`, `"after"`)
		if c.changes == nil || c.options.Changes != nil || c.awaits != nil {
			t.Error("not as a channel that did not wait")
		}
	})
}

// awaitRefusals are what is said of a subscription that a join waits for, how long it has waited by then, and its answer.
var awaitRefusals = map[string]struct {
	code   protocol.Code
	text   string
	after  time.Duration
	answer string
}{
	"time": {"", "", 4 * time.Second, "PostgresChangesSubscribeTimeout: Timed out after 4000ms waiting for the postgres_changes subscription\""},
	"away": {protocol.PostgresChangesUnavailable, protocol.PostgresChangesUnavailable.Text(), 4 * time.Second,
		"PostgresChangesSubscribeTimeout: Timed out after 4000ms waiting for the postgres_changes subscription: Changes cannot be read from the database at the moment"},
	"slot":          {protocol.PostgresChangesUnavailable, protocol.TextChangesSlotWaits, 4 * time.Second, "PostgresChangesSubscribeTimeout: Timed out after 4000ms waiting for the postgres_changes subscription: " + protocol.TextChangesSlotWaits},
	"snapshots":     {protocol.PostgresChangesSnapshot, protocol.TextSnapshotBusy, 4 * time.Second, "PostgresChangesSubscribeTimeout: Timed out after 4000ms waiting for the postgres_changes subscription: " + protocol.TextSnapshotBusy},
	"entries":       {protocol.PostgresChangesRefused, "no such table", 0, "RealtimeDisabledForConfiguration: no such table"},
	"configuration": {protocol.PostgresChangesUnavailable, fmt.Sprintf(protocol.TextChangesUnreadable, "wal_level"), 0, "PostgresChangesUnavailable: Changes cannot be read from the database: wal_level"},
}

// A join that waits is refused when changes cannot be subscribed to, and when that takes too long. Nothing of it is left.
func TestJoinThatWaitsInVain(t *testing.T) {
	t.Parallel()
	for name, tt := range awaitRefusals {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			eachVersion(t, func(t *testing.T, version protocol.Version) {
				client := &told{}
				s, c := awaitingChanges(t, version, client)
				s.hear("2", protocol.EventBroadcast, `{"event":"e","payload":{}}`) // waits, too
				if tt.text != "" {
					changesMember{c}.Notice(tt.code, tt.text)
				}
				if tt.after > 0 {
					time.Sleep(tt.after - 1)
					synctest.Wait()
					client.saw(t)
					time.Sleep(time.Nanosecond)
				}
				synctest.Wait()
				client.saw(t, "unmatched topic", tt.answer)
				changesMember{c}.Notice("", protocol.TextSubscribed)
				changesMember{c}.Deliver(change)
				time.Sleep(10 * time.Minute)
				client.saw(t, "unmatched topic", tt.answer)
				code, _, _ := strings.Cut(tt.answer, ":")
				if n := metricstest.Value(t, s.Metrics, "realtime_joins_total", code); n != 1 || s.InUse() || !c.ended {
					t.Errorf("counted %v, in use: %t, ended: %t", n, s.InUse(), c.ended)
				}
			})
		})
	}
}

// By whichever way a channel ends whose join waits, the join is answered once, at once, and nothing else comes of it.
func TestEndOfAJoinThatWaits(t *testing.T) {
	t.Parallel()
	ways := map[string]string{
		"leave": "JoinSuperseded: The topic was left", "another join": "JoinSuperseded: Another join", "revocation": "Unauthorized", "deaf": "Deaf",
		"token's expiry": "MalformedJWT", "disconnect": "Disconnected", "shutdown": "RealtimeRestarting", "socket's end": "",
	}
	for name, answer := range ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			eachVersion(t, func(t *testing.T, version protocol.Version) {
				client := &told{}
				s, c := awaitingChanges(t, version, client)
				if name == "shutdown" {
					s.Drain()
				} else {
					endsOfChannels[name].end(s, c)
				}
				synctest.Wait()
				if c.awaits != nil {
					t.Error("it waits on")
				}
				frames := len(client.frames)
				changesMember{c}.Notice("", protocol.TextSubscribed)
				changesMember{c}.Deliver(change)
				changesMember{c}.Notice(protocol.PostgresChangesRefused, "no")
				if len(client.frames) != frames {
					t.Errorf("told %q", client.frames)
				}
				switch name {
				case "leave":
					client.saw(t, answer, `{"status":"ok","response":{}}`, "phx_close")
				case "another join":
					client.saw(t, answer, `{"postgres_changes":[{`, "phx_close")
				case "socket's end":
					client.saw(t)
				default:
					client.saw(t, answer)
				}
			})
		})
	}
}

// A join whose client has left before it could wait is answered as one that does.
func TestLeaveBeforeTheJoinWaits(t *testing.T) {
	t.Parallel()
	eachVersion(t, func(t *testing.T, version protocol.Version) {
		client := &told{}
		s, c := awaitingChanges(t, version, client)
		c.mu.Lock()
		c.stopAwaiting() // as while it is being decided
		c.mu.Unlock()
		s.hear("1", protocol.EventLeave, "{}")
		client.saw(t)
		c.awaitChanges(func() { t.Error("answered with ok") })
		client.saw(t, "JoinSuperseded: The topic was left", `{"status":"ok","response":{}}`, "phx_close")
	})
}

// A new token while the join waits counts for what it waits for; one that is no good ends it.
func TestNewTokenWhileTheJoinWaits(t *testing.T) {
	t.Parallel()
	eachVersion(t, func(t *testing.T, version protocol.Version) {
		client := &told{}
		s, c := awaitingChanges(t, version, client)
		s.hear("1", protocol.EventAccessToken, fmt.Sprintf(`{"access_token":%q}`, userToken(t, "u")))
		client.saw(t)
		changesMember{c}.Notice("", protocol.TextSubscribed)
		client.saw(t, `"ok"`, protocol.TextSubscribed)

		client = &told{}
		s, _ = awaitingChanges(t, version, client)
		s.hear("1", protocol.EventAccessToken, `{"access_token":"none"}`)
		client.saw(t, "MalformedJWT")
	})
}

// What makes no sense is refused at once, and what asks for nothing does not wait.
func TestJoinsThatNeedNotWait(t *testing.T) {
	t.Parallel()
	eachVersion(t, func(t *testing.T, version protocol.Version) {
		client := &told{}
		s, _ := awaitingChanges(t, version, client)
		s.hear("2", protocol.EventJoin, strings.Replace(waitsForChanges, `"table":"t"`, `"table":"t","filter":"wrong"`, 1))
		synctest.Wait()
		client.saw(t, "JoinSuperseded", "RealtimeDisabledForConfiguration: Error parsing `filter` params", "phx_close")
		s.hear("3", protocol.EventJoin, `{"config":{"postgres_changes":[],"postgres_changes_options":{"wait":true}}}`)
		synctest.Wait()
		client.saw(t, "JoinSuperseded", "RealtimeDisabledForConfiguration", "phx_close", `{"postgres_changes":[]}`)
	})
}

// What is sent while the join waits does not wait as long as that.
func TestPushesWhileTheJoinWaits(t *testing.T) {
	t.Parallel()
	eachVersion(t, func(t *testing.T, version protocol.Version) {
		client := &told{}
		s, _ := awaitingChanges(t, version, client)
		s.hear("2", protocol.EventJoin, strings.Replace(waitsForChanges, "4000", "15000", 1))
		synctest.Wait()
		s.hear("3", protocol.EventBroadcast, `{"event":"e","payload":{}}`)
		time.Sleep(waitingTime)
		synctest.Wait()
		client.saw(t, "JoinSuperseded", "unmatched topic")
		s.mu.Lock()
		c := s.channels["realtime:a"]
		s.mu.Unlock()
		changesMember{c}.Notice("", protocol.TextSubscribed)
		client.saw(t, "JoinSuperseded", "unmatched topic", `{"postgres_changes":[{`, "phx_close", protocol.TextSubscribed)
	})
}

// Whoever comes first answers the join, and nobody else does.
func TestJoinThatWaitsIsAnsweredOnce(t *testing.T) {
	t.Parallel()
	for range 200 {
		synctest.Test(t, func(t *testing.T) {
			client := &told{}
			s, c := awaitingChanges(t, protocol.V2, client)
			c.mu.Lock()
			a := c.awaits
			c.mu.Unlock()
			var all sync.WaitGroup
			for _, do := range []func(){
				func() { changesMember{c}.Notice("", protocol.TextSubscribed); changesMember{c}.Deliver(change) },
				func() { c.awaitedTooLong(a) },
				func() { s.hear("1", protocol.EventLeave, "{}") },
				s.Drain,
			} {
				all.Go(do)
			}
			all.Wait()
			answers := client.count(`{"postgres_changes":`) + client.count("JoinSuperseded") + client.count("PostgresChangesSubscribeTimeout") + client.count("RealtimeRestarting")
			if answers != 1 {
				t.Errorf("answered %d times: %q", answers, client.frames)
			}
		})
	}
}
