-- May these users receive and send on these topics? Arrays of equal length: $1 topics, $2 extensions,
-- $3 roles, $4 claims, $5 headers (JSON texts). $6: roles that may bypass policies; null: those of the server that started last.
select request, receive, send, code, reason, to_regrole(quote_ident(($3::text[])[request])) is not null
  from realtime._decide($1, $2, $3, $4, $5, coalesce($6::text[], (select value from realtime._settings where name = 'bypass_roles')));
