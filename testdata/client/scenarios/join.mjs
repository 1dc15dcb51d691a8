import assert from 'node:assert/strict'
import WebSocket from 'ws'
import { quote } from '../scenario.mjs'
import { within } from '../seen.mjs'

export default {
  'a private join without a right is denied': async (t) => {
    assert.equal(await t.refused(t.user(), 'room:9', { private: true }),
      'Unauthorized: You do not have permissions to read from this Channel topic: room:9')
  },

  'a private join with a right is allowed': async (t) => {
    const room = t.topic()
    const user = t.user()
    await t.admit(room, user)
    const member = await t.join(user, room, { private: true, ack: true, self: true })
    assert.equal(await member.send('hello'), 'ok')
    await member.hears('hello')
    member.isUndisturbed()
  },

  'a private and a public room of one name never meet': async (t) => {
    const room = t.topic()
    const [a, b] = [t.user(), t.user()]
    await Promise.all([t.admit(room, a), t.admit(room, b)])
    const config = { ack: true, self: true }
    const [a1, b1] = await Promise.all([a, b].map((u) => t.join(u, room, { ...config, private: true })))
    const [a2, b2] = await Promise.all([a, b].map((u) => t.join(u, room, config)))
    assert.equal(await a1.send('secret'), 'ok')
    assert.equal(await b2.send('open'), 'ok')
    await t.sql(t.broadcast('secret row', room) + t.broadcast('open row', room, { isPrivate: false }))
    await t.sql(t.broadcast('fence', room) + t.broadcast('fence', room, { isPrivate: false }))
    for (const member of [a1, b1, a2, b2]) await member.hears('fence')
    for (const member of [a1, b1]) assert.deepEqual(member.heard, ['secret', 'secret row', 'fence'])
    for (const member of [a2, b2]) assert.deepEqual(member.heard, ['open', 'open row', 'fence'])
  },

  'policies can tell topics apart': async (t) => {
    const user = t.user()
    const mine = t.topic('news')
    const other = t.topic('news')
    await t.allow('select', `realtime.topic() = ${quote(mine)} and realtime.topic() = topic`)
    await t.join(user, mine, { private: true })
    assert.match(await t.refused(user, other, { private: true }), /^Unauthorized: /)
  },

  'policies can tell who asks': async (t) => {
    const user = t.user({ email: 'ada@example.com', app_metadata: { plan: 'pro' } })
    const namesake = t.user({ email: 'ada@example.org' })
    const inbox = t.topic('inbox')
    await t.allow('select', `realtime.topic() = ${quote(inbox)} and (select auth.uid()) = ${quote(user.id)} and auth.role() = 'authenticated'
      and auth.email() = 'ada@example.com' and auth.jwt() -> 'app_metadata' ->> 'plan' = 'pro'`)
    await t.join(user, inbox, { private: true })
    for (const stranger of [namesake, t.user({ id: user.id }), t.user({ ...user.claims, role: 'anon', id: user.id })]) {
      assert.match(await t.refused(stranger, inbox, { private: true }), /^Unauthorized: /)
    }
  },

  'a right to broadcast is no right to presence': async (t) => {
    const user = t.user()
    const topic = t.topic('talk')
    await t.allow('select', `realtime.topic() = ${quote(topic)} and extension = 'broadcast'`)
    await t.allow('insert', `realtime.topic() = ${quote(topic)} and extension = 'broadcast'`)
    const member = await t.join(user, topic, { private: true, ack: true, presence: { enabled: true } })
    assert.equal(await member.send('hello'), 'ok')
    assert.equal(await member.channel.track({ here: true }), 'error')
    assert.equal(await t.can('send', topic, 'broadcast', user), true)
    assert.equal(await t.can('send', topic, 'presence', user), false)
  },

  'a right to presence is no right to broadcasts': async (t) => {
    const user = t.user()
    const topic = t.topic('lobby')
    await t.allow('select', `realtime.topic() = ${quote(topic)} and extension = 'presence'`)
    const client = t.client(user.token)
    const member = await t.join(client, topic, { private: true, presence: { enabled: true } })
    const fence = await t.join(client, t.topic())
    await t.sql(t.broadcast('not for you', topic) + t.broadcast('fence', fence.topic, { isPrivate: false }))
    await fence.hears('fence')
    assert.equal(client.tape.received('not for you'), false)
    assert.deepEqual(member.statuses, ['SUBSCRIBED'])
    assert.match(await t.refused(user, topic, { private: true }), /^Unauthorized: /, 'a join that asks for broadcasts alone')
  },

  'a policy made a moment before the join counts': async (t) => {
    const user = t.user()
    const topic = t.topic('new')
    const client = t.client(user.token)
    assert.match(await t.refused(client, topic, { private: true }), /^Unauthorized: /)
    await client.removeAllChannels()
    await t.allow('select', `realtime.topic() = ${quote(topic)}`)
    await t.join(user, topic, { private: true })
  },

  'a role that the server does not allow is refused at connect': async (t) => {
    const user = t.user({ role: 'postgres' })
    const client = t.client(user.token)
    const member = t.knock(client, t.topic())
    await member.status('CHANNEL_ERROR')
    await client.tape.seen.until((frame) => frame.way === 'failed' && frame.text.includes('401'), 'a refusal with status 401')
    assert.deepEqual(client.tape.seen.all.filter((frame) => frame.way === 'in'), [])

    const address = `${t.url.replace('http', 'ws')}/realtime/v1/websocket?vsn=${t.vsn}&apikey=${user.token}`
    const body = new Promise((resolve, reject) => {
      new WebSocket(address).on('error', reject).on('unexpected-response', async (_, response) => {
        resolve(Buffer.concat(await response.toArray()).toString())
      })
    })
    assert.match(JSON.parse(await within(body, 'the refusal')).error, /role `postgres` is not allowed/)
  },
}
