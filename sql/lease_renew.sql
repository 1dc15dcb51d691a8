-- Keeps the place of $1 (id) among the nodes for $2 milliseconds from now, late or not, unless it was taken away. Returns the
-- nodes that have a place, $1 among them if it still does. mend: what to run about a row that outlasts every server's; xid: in which
-- transaction this was.
with clock as materialized (select clock_timestamp() as now),
     term as (select $2::bigint * interval '1 ms' as length),
     own as (update realtime._nodes n set expires_at = now + length from clock, term where id = $1 returning n.*),
     others as (select n.* from realtime._nodes n, clock where id <> $1 and expires_at > now)
select id, name, to_char(started_at at time zone 'utc', 'YYYY-MM-DD HH24:MI:SS "UTC"') as since,
       case when expires_at > now + 10 * length then format('delete from realtime._nodes where id = %L;', id) else '' end as mend,
       pg_current_xact_id()::text as xid
  from (select * from own union all select * from others) as nodes, clock, term
 order by started_at, id;
