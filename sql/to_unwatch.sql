-- Tables that this server watches by itself though no right depends on them any more.
select source, name from realtime._to_unwatch();
