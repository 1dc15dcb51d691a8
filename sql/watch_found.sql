-- Watches the table $1 that policies were found to depend on: subject $2, topic $3, columns $4, and why there is neither of the
-- first two $5. False: somebody else watches it.
select realtime._watch_found($1, nullif($2, '')::name, nullif($3, ''), $4, nullif($5, ''));
