-- Whether an entry of the journal, a mark or a disconnect may have been dropped that the snapshot $1 does not see.
select exists (select from realtime._dropped where not pg_visible_in_snapshot(xid, $1::text::pg_snapshot) and upto >= pg_snapshot_xmin($1::text::pg_snapshot));
