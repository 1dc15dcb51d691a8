-- A name by which another transaction can have the same snapshot, as long as this one lives.
select pg_export_snapshot();
