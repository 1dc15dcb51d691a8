-- The places of the first and the last entry of the journal that the snapshot $1 does not see and $2 does; null where there
-- is none.
select min(seq), max(seq)
  from (select seq from realtime._journal
         where xid >= pg_snapshot_xmin($1::text::pg_snapshot) and xid < pg_snapshot_xmax($2::text::pg_snapshot)
           and not pg_visible_in_snapshot(xid, $1::text::pg_snapshot) and pg_visible_in_snapshot(xid, $2::text::pg_snapshot)
        offset 0) as missed;
