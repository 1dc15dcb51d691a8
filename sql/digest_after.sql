-- The digest, behind a decision on the same connection, and whether that was surely made by plans of no other digest.
select digest, planned from realtime._digest_after();
