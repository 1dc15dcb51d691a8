import assert from 'node:assert/strict'
import { needs } from '../release.mjs'

const any = (table, more) => ({ event: '*', schema: 'public', table, ...more })

// slow are entries that take longer to check than a millisecond: a question each.
async function slow(t) {
  const table = await t.table('id int primary key')
  return Array.from({ length: 100 }, (_, id) => any(table, { filter: `id=eq.${id}` }))
}

// wait are the options of a join that waits for changes; of an old release, which has none, the scenario is not played.
function wait(timeout) {
  needs('joins that wait for changes')
  return { wait: true, timeout }
}

export default {
  'SUBSCRIBED means that changes are subscribed to, for who waits': async (t) => {
    const table = await t.table('id int primary key')
    const member = await t.join(t.user(), t.topic(), { changes: [any(table)], postgres_changes_options: wait() })
    await t.sql(`insert into ${table} values (1)`) // without waiting for the system message
    await member.toldOf(1)
    assert.deepEqual(member.ids(), [1])
    assert.deepEqual(member.statuses, ['SUBSCRIBED'])
    assert.deepEqual(member.systems, ['Subscribed to PostgreSQL'])
  },

  'whoever waits for changes that cannot be had is refused, and is let in once they can': async (t) => {
    const table = `t_${t.topic('').slice(1, 9)}`
    await t.sql(`create table ${table} (id int primary key); grant select on ${table} to authenticated`)
    const member = t.knock(t.user(), t.topic(), { changes: [any(table)], postgres_changes_options: wait() })
    const { error } = await member.status('CHANNEL_ERROR')
    assert.equal(error, 'RealtimeDisabledForConfiguration: Unable to subscribe to changes with given parameters. Please check Realtime is enabled for the given connect parameters: '
      + `[event: *, schema: public, table: ${table}, filters: [], select: nil]`)
    await t.sql(`alter publication supabase_realtime add table ${table}`)
    await member.status('SUBSCRIBED') // the client joins again by itself
    await t.sql(`insert into ${table} values (1)`)
    await member.toldOf(1)
  },

  'whoever waits for changes is refused when the time is over': async (t) => {
    const changes = await slow(t)
    const member = t.knock(t.user(), t.topic(), { changes, postgres_changes_options: wait(1) })
    const { error } = await member.status('CHANNEL_ERROR')
    assert.match(error, /^PostgresChangesSubscribeTimeout: Timed out after 1ms waiting for the postgres_changes subscription/)
    await member.channel.unsubscribe()
    assert.ok(!member.statuses.includes('SUBSCRIBED'))
  },

  'whoever leaves while the join waits for changes has left': async (t) => {
    const changes = await slow(t)
    const client = t.client(t.user().token)
    const member = t.knock(client, t.topic(), { changes, postgres_changes_options: wait() })
    await client.tape.seen.until((f) => f.way === 'out' && f.text.includes('phx_join'), 'the join')
    assert.equal(await member.channel.unsubscribe(), 'ok')
    assert.ok(!member.statuses.includes('SUBSCRIBED'))
  },

  'who waits for no changes does not wait': async (t) => {
    const member = await t.join(t.user(), t.topic(), { postgres_changes_options: wait() })
    await t.sql(t.broadcast('hello', member.topic, { isPrivate: false }))
    await member.hears('hello')
    member.isUndisturbed()
  },
}
