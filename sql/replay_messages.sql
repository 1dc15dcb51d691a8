-- The messages of the private room $1 at the places $2, one after the other until they come to $3 bytes, and one at least;
-- $4 the most bytes of a payload (0: any). Of each: whether the journal still has it; and the message, unless it was deleted
-- or its payload is longer than that.
with recursive page (place, total, kept, id, event, payload, binary_payload) as (
  select 0, 0::bigint, false, null::text, null::text, null::text, null::bytea
  union all
  select page.place + 1, page.total + case when measured.fits then measured.bytes else 0 end, journal.seq is not null,
         case when measured.fits then messages.id::text end, messages.event,
         case when measured.fits then printed.text end, case when measured.fits then messages.binary_payload end
    from page
    left join realtime._journal journal on journal.seq = ($2::bigint[])[page.place + 1] and journal.topic = $1 and journal.private
    left join realtime.messages messages on messages.id = journal.message_id and messages.inserted_at = journal.inserted_at
    left join lateral (select messages.payload::text as text offset 0) as printed on true
    left join lateral (select bytes, (bytes > nullif($4::bigint, 0)) is not true as fits
                         from (select coalesce(octet_length(printed.text), octet_length(messages.binary_payload), 0) as bytes) as counted) as measured on true
   where page.place < cardinality($2::bigint[]) and page.total < $3
)
select place, kept, id, event, payload, binary_payload from page where place > 0 order by place;
