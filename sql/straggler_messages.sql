-- Of the journal's entries of the transactions $1, behind the place $2, at most $3 of them, in the order of sending.
select xid::text, seq, token::text
  from realtime._journal where xid = any ($1::text[]::xid8[]) and seq > $2
 order by seq limit $3;
