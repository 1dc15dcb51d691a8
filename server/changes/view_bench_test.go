package changes

import (
	"fmt"
	"strconv"
	"testing"
)

// What one question to a view costs, of so many groups about so many rows.
func BenchmarkVisible(b *testing.B) {
	s := newStage(b, `
		create table notes (id bigint primary key, owner uuid, body text);
		alter table notes enable row level security;
		create policy own on notes for select using (owner = auth.uid());
		grant select on notes to authenticated;
		insert into notes select n, case when n % 2 = 0 then '`+annID+`'::uuid else '`+bobID+`'::uuid end, 'text' from generate_series(1, 100000) as n;
		analyze notes`)
	s.begin()
	notes := s.table("notes")
	for _, rows := range []int{1, 100} {
		var keys [][]string
		for n := range rows {
			keys = append(keys, []string{strconv.Itoa(n*997 + 1)})
		}
		for _, many := range []int{1, 20, 200} {
			groups := make([]Group, many)
			for i := range groups {
				groups[i] = user(fmt.Sprintf("a1111111-1111-4111-8111-%012d", i))
			}
			b.Run(fmt.Sprintf("groups=%d/rows=%d", many, rows), func(b *testing.B) {
				for b.Loop() {
					s.visible(notes, keys, groups)
				}
			})
		}
	}
}
