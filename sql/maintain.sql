-- Makes the partitions of the coming days and drops what is older than $1 (an interval).
select created, dropped from realtime._maintain($1::text::interval);
