-- Adds entries to the decision log: $1 the node, then one array for each column, of equal length. Those that are there already,
-- from a try whose answer was lost, are left alone.
insert into realtime.decisions (node, number, at, subscription, event, topic, subject, role, receive, send, presence_receive, presence_send, code, sqlstate, reason, generation, latency)
select $1, e.* from unnest($2::bigint[], $3::timestamptz[], $4::bigint[], $5::text[], $6::text[], $7::text[], $8::text[], $9::boolean[], $10::boolean[], $11::boolean[], $12::boolean[],
                           $13::text[], $14::text[], $15::text[], $16::bigint[], $17::interval[]) as e
on conflict do nothing;
