-- Tables that policies depend on, that nobody watches, and that this server may watch.
select source, name from realtime._to_watch();
