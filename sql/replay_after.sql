-- Of the private room $1, as far as the snapshot $2 sees it: what somebody lacks who was given the messages $3 last. Whether
-- any of these is known, whether something that is lacking may have been dropped, whether there is more than the newest $4,
-- and the places of those, in the order of sending.
--
-- A message was told before another if it was visible to the statement that sent that one, or is before it in the same
-- transaction. (A snapshot may claim to see its own transaction; and one that a dump of another cluster brought, later
-- ones. What was told before has a lower place in any case.)
with known as materialized (
  select xid, seq, seen
    from (select distinct on (messages.id) journal.xid, journal.seq, journal.seen
            from realtime.messages
            join realtime._journal journal on journal.topic = messages.topic and journal.private
                 and journal.inserted_at = messages.inserted_at and journal.message_id = messages.id
           where messages.id = any ($3::text[]::uuid[]) and messages.topic = $1 and messages.inserted_at >= '0001-01-02' -- not a probe
             and journal.seen is not null and pg_visible_in_snapshot(journal.xid, $2::text::pg_snapshot)
           order by messages.id, journal.seq) as first -- whoever may insert may give his message another's id
   order by seq desc -- the last one has seen most: looked at first, it settles most questions
), oldest as materialized (
  select pg_snapshot_xmin(seen) as xid from known order by 1 desc limit 1
), newest as materialized (
  select xid, seq from realtime._journal journal
   where topic = $1 and private
     and xid >= coalesce((select oldest.xid from oldest), '0') and xid < pg_snapshot_xmax($2::text::pg_snapshot)
     and pg_visible_in_snapshot(xid, $2::text::pg_snapshot)
     and not exists (select from known
                      where journal.seq <= known.seq and (journal.xid = known.xid or pg_visible_in_snapshot(journal.xid, known.seen)))
     and message_id <> all ($3::text[]::uuid[])
   order by xid desc, seq desc limit $4::bigint + 1
)
select exists (select from known),
       exists (select from realtime._dropped, oldest where _dropped.upto >= oldest.xid),
       (select count(*) > $4 from newest),
       coalesce((select array_agg(seq order by seq) from (select seq from newest order by xid desc, seq desc limit $4) as given), '{}');
