-- The messages behind journal entries, in the order asked: $1 transactions, $2 places in them, $3 tokens; $4 the most bytes
-- of a payload (0: any; a longer one comes back without it). Entries that do not exist are missing.
select asked.place, messages.id::text, messages.topic, messages.event, coalesce(messages.private, false),
       coalesce(content.bytes > nullif($4::bigint, 0), false) as too_large,
       case when (content.bytes > nullif($4::bigint, 0)) is not true then content.text end,
       case when (content.bytes > nullif($4::bigint, 0)) is not true then messages.binary_payload end
  from unnest($1::text[], $2::bigint[], $3::text[]) with ordinality as asked (xid, seq, token, place)
  join realtime._journal journal on journal.xid = asked.xid::xid8 and journal.seq = asked.seq and journal.token = asked.token::uuid
  join realtime.messages messages on messages.id = journal.message_id and messages.inserted_at = journal.inserted_at
 cross join lateral (select text, coalesce(octet_length(text), octet_length(messages.binary_payload)) as bytes
                       from (select messages.payload::text as text offset 0) as printed) as content
 order by asked.place;
