-- error: The sequence of realtime._journal has a cache.
-- Sessions then take numbers in advance, and what a transaction says later may have a smaller one: messages of one transaction
-- come in another order than they were sent.
select format('sequence %s', s.seqrelid::regclass), format('has a cache of %s', s.seqcache), format('alter sequence %s cache 1;', s.seqrelid::regclass)
  from pg_sequence s
 where s.seqrelid = to_regclass('realtime._journal_seq_seq') and s.seqcache > 1;
