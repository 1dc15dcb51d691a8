-- Of the journal's entries behind ($3, $4), at most $5 of them: those of transactions that the snapshot $1 does not see and
-- $2 does. The last one looked at is there in any case, so that the next page can begin behind it.
select xid::text, seq::text, missed, token::text
  from (select xid, seq, token, not pg_visible_in_snapshot(xid, $1::text::pg_snapshot) and pg_visible_in_snapshot(xid, $2::text::pg_snapshot) as missed,
               lead(seq) over (order by xid, seq) is null as last
          from (select xid, seq, token from realtime._journal
                 where (xid, seq) > ($3::text::xid8, $4::text::bigint) and xid < pg_snapshot_xmax($2::text::pg_snapshot)
                 order by xid, seq limit $5) as page) as judged
 where missed or last
 order by judged.xid, judged.seq;
