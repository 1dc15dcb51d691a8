-- Takes a place among the nodes for $1 (id), named $2, for $3 milliseconds, if nobody else has one, or beside others if $4.
-- Returns the nodes that have a place, so $1 among them or those that stand in its way. To be asked after lease_lock, in
-- its transaction. mend: what to run about a row that outlasts every server's; xid: in which transaction
-- this was.
with clock as materialized (select clock_timestamp() as now),
     term as (select $3::bigint * interval '1 ms' as length),
     others as (select n.* from realtime._nodes n, clock where id <> $1 and expires_at > now),
     expired as (delete from realtime._nodes n using clock where id <> $1 and expires_at <= now),
     own as (
       insert into realtime._nodes (id, name, started_at, expires_at)
       select $1, $2, now, now + length from clock, term where $4::boolean or not exists (select from others)
       on conflict (id) do update set expires_at = excluded.expires_at
       returning *)
select id, name, to_char(started_at at time zone 'utc', 'YYYY-MM-DD HH24:MI:SS "UTC"') as since,
       case when expires_at > now + 10 * length then format('delete from realtime._nodes where id = %L;', id) else '' end as mend,
       pg_current_xact_id()::text as xid
  from (select * from own union all select * from others) as nodes, clock, term
 order by started_at, id;
