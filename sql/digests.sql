-- Of everything in the catalogs that policies depend on: another than before, and rights may have changed. And of what the
-- publication $1 publishes, and who may read of it what; empty: there is none.
select realtime._digest(), realtime._publication_digest($1);
