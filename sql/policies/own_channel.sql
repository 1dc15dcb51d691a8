-- A channel per user, topic user:<id>, for what the application has to tell that user alone. The user receives and sends
-- nothing; the application sends from SQL, in the transaction that it is about.
--
-- Needs: auth.sql. It depends on the token alone, so there is nothing to watch.
create policy "users receive on their own channel" on realtime.messages for select to authenticated
using (
  topic = realtime.topic()
  and realtime.topic() = 'user:' || (select auth.uid())
  and extension = 'broadcast'
);
