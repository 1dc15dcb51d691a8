-- Makes the partitions of the decision log and drops what is older than $1 (an interval; null keeps everything).
select created, dropped from realtime._maintain_decisions($1::text::interval);
