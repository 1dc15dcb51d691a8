-- Of the marks behind ($3, $4), at most $5 of them: those of transactions that the snapshot $1 does not see and $2 does. The
-- last one looked at is there in any case, so that the next page can begin behind it.
select xid::text, aim, missed, coalesce(aim::json ->> 's', ''), coalesce(aim::json ->> 't', ''), token::text
  from (select xid, aim, token, not pg_visible_in_snapshot(xid, $1::text::pg_snapshot) and pg_visible_in_snapshot(xid, $2::text::pg_snapshot) as missed,
               lead(aim) over (order by xid, aim) is null as last
          from (select xid, aim, token from realtime._marks
                 where (xid, aim) > ($3::text::xid8, $4::text collate "C") and xid < pg_snapshot_xmax($2::text::pg_snapshot)
                 order by xid, aim limit $5) as page) as judged
 where missed or last
 order by judged.xid, judged.aim;
