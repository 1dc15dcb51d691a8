import assert from 'node:assert/strict'
import { old } from '../release.mjs'

export default {
  'clients are asked to go when the server stops, and come back to the next': async (t) => {
    const first = await t.ask('serve', {})
    const service = t.user({ role: 'service_role' })
    // Old releases join again after that time even while they wait for an answer, and then never know it for one.
    const client = t.client(service.token, { realtime: { url: first.url, reconnectAfterMs: () => (old ? 1000 : 100) } })
    const members = await Promise.all([
      t.join(client, t.topic()), t.join(client, t.topic(), { private: true }), t.join(client, t.topic(), { private: true })])
    await t.ask('stop', { addr: first.addr })
    for (const member of members) {
      const { system } = await member.system('Server requested disconnect')
      assert.equal(system.status, 'ok')
      await member.status('CHANNEL_ERROR')
    }
    await client.tape.seen.until((frame) => frame.way === 'closed' && frame.code === 1012, 'close code 1012')

    await t.ask('serve', { addr: first.addr })
    for (const member of members) {
      await member.log.until((e) => e.status === 'SUBSCRIBED' && member.statuses.filter((s) => s === 'SUBSCRIBED').length === 2, 'a second SUBSCRIBED')
      assert.ok(!member.statuses.includes('CLOSED'))
      assert.deepEqual(member.systems, ['Server requested disconnect'])
    }
    const other = await t.join(t.client(service.token, { realtime: { url: first.url } }), members[1].topic, { private: true })
    await other.send('welcome back')
    await members[1].hears('welcome back')
  },
}
