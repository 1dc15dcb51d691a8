-- Of the private room $1, as far as the snapshot $2 sees it: the places of the newest $4 messages inserted since $3 (Unix
-- milliseconds). In the order of insertion, or of sending if $5.
select coalesce(array_agg(seq order by case when not $5::boolean then inserted_at end, seq), '{}')
  from (select seq, inserted_at from realtime._journal
         where topic = $1 and private and pg_visible_in_snapshot(xid, $2::text::pg_snapshot)
           and inserted_at >= timestamp '1970-01-01' + $3::bigint * interval '1 millisecond'
           and inserted_at < timezone('utc', now()) + interval '1 minute'
         order by inserted_at desc, seq desc limit $4) as newest;
