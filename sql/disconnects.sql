-- Who is to be disconnected, and why, by entries of realtime._disconnects in the order asked: $1 transactions, $2 tokens.
-- Entries that do not exist are missing.
select asked.place, entry.subject, coalesce(entry.reason, '')
  from unnest($1::text[], $2::text[]) with ordinality as asked (xid, token, place)
  join realtime._disconnects entry on entry.xid = asked.xid::xid8 and entry.token = asked.token::uuid
 order by asked.place;
