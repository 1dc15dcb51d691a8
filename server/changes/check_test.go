package changes

import (
	"slices"
	"testing"
)

// A check that takes too long again and again is a refusal, and keeps nobody waiting whose filter has no pattern.
func TestChecksThatTakeTooLong(t *testing.T) {
	t.Parallel()
	th := newTheater(t, nil, notes, `
		alter function realtime._check_entry(text, oid, text[], jsonb, text[], text[]) rename to _check_real;
		create function realtime._check_entry(role text, relation oid, key text[], conditions jsonb, selected text[], bypass_roles text[])
			returns table (code text, problem text, missing text) language plpgsql as $$ begin
				if conditions::text like '%slow%' then perform pg_sleep(10); end if;
				return query select * from realtime._check_real(role, relation, key, conditions, selected, bypass_roles);
			end $$`)
	var slow []*spectator
	for _, value := range []string{"slow1", "slow2", "slow3"} {
		slow = append(slow, th.seat(user(annID), `{"event":"*","schema":"public","table":"notes","filter":"body=match.`+value+`"}`))
	}
	th.subscribed(user(bobID), all)
	for _, s := range slow {
		s.mu.Lock()
		if slices.ContainsFunc(s.told, func(text string) bool { return text != "-"+away.text }) {
			t.Errorf("told %q before others were subscribed", s.told)
		}
		s.mu.Unlock()
	}
	slow[0].expect("-"+away.text, "-Unable to subscribe to changes with given parameters. An exception happened so please check your connect parameters: "+
		`[event: *, schema: public, table: notes, filters: [{"body", "match", "slow1", false}], select: nil]. Exception: ERROR 57014 (query_canceled) canceling statement due to statement timeout`)
}
