-- Of the entries of realtime._disconnects behind ($3, $4), at most $5 of them: those of transactions that the snapshot $1
-- does not see and $2 does. The last one looked at is there in any case, so that the next page can begin behind it.
select xid::text, token::text, missed, subject, coalesce(reason, '')
  from (select xid, token, subject, reason, not pg_visible_in_snapshot(xid, $1::text::pg_snapshot) and pg_visible_in_snapshot(xid, $2::text::pg_snapshot) as missed,
               lead(token) over (order by xid, token) is null as last
          from (select xid, token, subject, reason from realtime._disconnects
                 where (xid, token) > ($3::text::xid8, $4::text::uuid) and xid < pg_snapshot_xmax($2::text::pg_snapshot)
                 order by xid, token limit $5) as page) as judged
 where missed or last
 order by judged.xid, judged.token;
