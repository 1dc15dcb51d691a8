-- Tables that policies depend on, that nobody watches, and that this server may watch; and those that it watches by itself.
select source, name, schema, relation, own, current, subject, topic, columns, reason from realtime._to_watch();
