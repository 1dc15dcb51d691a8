-- May these users receive and send on these topics? Arrays of equal length: $1 topics, $2 extensions, $3 roles, $4 claims,
-- $5 headers (JSON texts); $6 roles that may bypass row level security.
-- valid_for: seconds from now, and not from when the first of them was decided.
select request, receive, send, code, reason, snapshot,
  valid_for - extract(epoch from clock_timestamp() - statement_timestamp())::double precision as valid_for
from realtime._decide($1, $2, $3, $4, $5, $6);
