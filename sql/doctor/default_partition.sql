-- warning: Messages of past days are in the default partition.
-- They belong into the partition of their day, which is dropped as a whole when its time has come. Rows of the default partition
-- are deleted one by one, and are read by every replay. Partitions are made by the server that serves, from yesterday on.
select 'table realtime.messages_default', format('holds %s messages of %s', count(*), inserted_at::date),
       format('select realtime._create_partition(%L);  -- as the server''s role', inserted_at::date)
  from realtime.messages_default
 where inserted_at >= '0001-01-02' and inserted_at < timezone('utc', now())::date
 group by inserted_at::date
 order by inserted_at::date
 limit 20;
