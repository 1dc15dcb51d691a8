-- The messages behind journal entries, in the order asked: $1 transactions, $2 places in them; $3 the most bytes of a
-- payload (a longer one comes back without it). Entries that do not exist are missing.
select asked.place, messages.id::text, messages.topic, messages.event, coalesce(messages.private, false),
       octet_length(content.text) > $3 or octet_length(messages.binary_payload) > $3 as too_large,
       case when octet_length(content.text) <= $3 then content.text end,
       case when octet_length(messages.binary_payload) <= $3 then messages.binary_payload end
  from unnest($1::text[], $2::bigint[]) with ordinality as asked (xid, seq, place)
  join realtime._journal journal on journal.xid = asked.xid::xid8 and journal.seq = asked.seq
  join realtime.messages messages on messages.id = journal.message_id and messages.inserted_at = journal.inserted_at
 cross join lateral (select messages.payload::text) as content (text)
 order by asked.place;
