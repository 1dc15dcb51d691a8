-- Why may this user receive and send, or not? $1 topic, $2 claims (JSON text), $3 role.
select subject, action, extension, name, value, sentence, kind, roles, expression
  from realtime.explain($1, $2::jsonb, $3) order by step;
