-- Of the journal's entries behind the place $3 and up to $4, at most $5 of them, in the order of sending: those of
-- transactions that the snapshot $1 does not see and $2 does. The last one looked at is there in any case, so that the next
-- page can begin behind it.
select xid::text, seq, missed, token::text
  from (select xid, seq, token, not pg_visible_in_snapshot(xid, $1::text::pg_snapshot) and pg_visible_in_snapshot(xid, $2::text::pg_snapshot) as missed,
               lead(seq) over (order by seq) is null as last
          from (select xid, seq, token from realtime._journal where seq > $3 and seq <= $4 order by seq limit $5) as page) as judged
 where missed or last
 order by judged.seq;
