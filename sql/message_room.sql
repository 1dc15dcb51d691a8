-- Where the message behind a journal entry goes: $1 transaction, $2 place in it, $3 token.
select messages.topic, coalesce(messages.private, false)
  from realtime._journal journal
  join realtime.messages messages on messages.id = journal.message_id and messages.inserted_at = journal.inserted_at
 where journal.xid = $1::text::xid8 and journal.seq = $2 and journal.token = $3::text::uuid;
