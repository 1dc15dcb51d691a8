-- Finds out what policies depend on now; $1: in any case, and not only if the digest is not the one of last time.
select digest, xid from realtime._discover($1);
