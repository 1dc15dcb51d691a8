package main

import (
	"fmt"
	"strings"

	"rowcast/server/messages"
	"rowcast/server/protocol"
)

// replayProvocations are what is said about the past.
var replayProvocations = []provocation{
	{code: protocol.UnableToReplayMessages, where: inJoin, counted: joinsTotal, on: onPlain, provoke: refusedJoin("a", config(replaying(map[string]any{})))},
	{code: protocol.UnableToReplayMessages, where: inJoin, counted: joinsTotal, on: onPlain, provoke: func(s *stage) string {
		defer s.journalOf("xid")()
		return refusedJoin("a", config(replaying(map[string]any{"since": 0})))(s)
	}},
	{code: protocol.UnableToReplayMessages, where: inSystem, counted: channelsTotal, on: onPlain, provoke: func(s *stage) string {
		s.exec(`select realtime.send(to_jsonb(repeat('x', 90000)), 'long', 'a') from generate_series(1, 20)`)
		c := s.dialHalting(s.t, token(s.t, "u1", "authenticated", nil))
		c.write(`["1","1","realtime:a","phx_join",{"config":{"private":true,"broadcast":{"replay":{"since":0}}}}]`)
		if f := c.next(); f.Event != "phx_reply" || !strings.Contains(string(f.Payload), `"ok"`) { // so the first page is there, and waits for this client
			s.t.Fatalf("%s %s", f.Event, f.Payload)
		}
		defer s.journalOf("xid")()
		for {
			if f := c.next(); f.Event == "system" {
				return messageOf(f)
			}
		}
	}},
	replayGap(messages.GapUnknown, "", "00000000-0000-0000-0000-000000000000"),
	replayGap(messages.GapLimit, "", ""),
	replayGap(messages.GapDropped, `insert into realtime._dropped (xid, upto) select pg_current_xact_id(), pg_current_xact_id() on conflict (one) do update set upto = excluded.upto`, ""),
	{code: protocol.ReplayGap, where: inSystem, counted: "realtime_replay_gaps_total", label: string(messages.GapUnreadable), on: onPlain, provoke: func(s *stage) string {
		s.exec(`select realtime.send('{}', 'e', 'a')`)
		defer s.journalOf("xid, seq, unreadable(message_id) as message_id, inserted_at, topic, private")()
		c, _ := s.member("a", replaying(map[string]any{"since": 0}))
		return c.told("a")
	}},
}

// replayGap has somebody go on after a message, the first of three if it is not named, where something happened.
func replayGap(gap messages.Gap, happened, after string) provocation {
	return provocation{code: protocol.ReplayGap, where: inSystem, counted: "realtime_replay_gaps_total", label: string(gap), on: onPlain, provoke: func(s *stage) string {
		event := fmt.Sprint("before ", gap)
		c, _ := s.member("a", private())
		s.exec(`select realtime.send(jsonb_build_object('n', n), $1, 'a') from generate_series(1, 3) as n`, event)
		c.wait("the first message", broadcastOf("a", event))
		last := after
		if last == "" {
			last = broadcasts(c, "a", event)[0].Meta.ID
		}
		replay := map[string]any{"after": last}
		if gap == messages.GapLimit {
			replay["limit"] = 1
		} else if happened != "" {
			s.exec(happened)
		}
		c, _ = s.member("a", replaying(replay))
		return c.told("a")
	}}
}

// journalOf puts these columns of the journal in its place, until the returned function is called.
func (s *stage) journalOf(columns string) (restore func()) {
	s.t.Helper()
	s.exec(`create or replace function unreadable(id uuid) returns uuid stable language plpgsql as $$ begin raise program_limit_exceeded; end $$;
		alter table realtime._journal rename to hidden;
		create view realtime._journal as select ` + columns + ` from realtime.hidden;
		alter view realtime._journal owner to rowcast`)
	return func() {
		s.t.Helper()
		s.exec(`drop view realtime._journal; alter table realtime.hidden rename to _journal`)
	}
}
