-- May these users receive and send on these topics? As the server that started last would decide. Arrays of equal length:
-- $1 topics, $2 extensions, $3 roles, $4 claims, $5 headers (JSON texts).
select request, receive, send, code, reason, to_regrole(quote_ident(($3::text[])[request])) is not null
  from realtime._decide($1, $2, $3, $4, $5, (select value from realtime._settings where name = 'bypass_roles'));
