-- warning: A policy is on a partition of realtime.messages.
-- Decisions ask realtime.messages, for which a partition's own policies do not count. They count for who names the partition,
-- whom they let in beside all other policies.
select format('policy %I on %s', p.polname, p.polrelid::regclass), 'is ignored when rights are decided, and opens the partition to who names it',
       format('drop policy %I on %s;  -- and create it on realtime.messages', p.polname, p.polrelid::regclass)
  from pg_policy p
  join pg_inherits i on i.inhrelid = p.polrelid
 where i.inhparent = to_regclass('realtime.messages');
