-- Of what the publication $1 publishes, and who may read of it what; empty: there is none.
select realtime._publication_digest($1);
