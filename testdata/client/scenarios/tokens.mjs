import assert from 'node:assert/strict'
import { needs, old } from '../release.mjs'

const mayNotRead = (topic) => `You do not have permissions to read from this Channel topic: ${topic}`

// changing is a client whose application decides whose token it has: call by call or, in old releases, by telling it.
function changing(t, first, realtime) {
  const key = t.user({ role: 'anon' }).token
  if (old) {
    const client = t.client(key, { realtime })
    return { client, become: (user) => client.realtime.setAuth(user.token) }
  }
  let current = first
  const client = t.client(key, { accessToken: async () => current.token, realtime })
  const become = (user) => {
    current = user
    return client.realtime.setAuth()
  }
  return { client, become }
}

export default {
  'the token that accessToken gives is the one that counts': async (t) => {
    const room = t.topic()
    const user = t.user()
    await t.admit(room, user)
    const { client, become } = changing(t, user)
    await become(user)
    const member = await t.join(client, room, { private: true, ack: true })
    assert.equal(await member.send('hello'), 'ok')
    member.isUndisturbed()
  },

  'a token given to setAuth before subscribe is the one that joins': async (t) => {
    const room = t.topic()
    const [user, listener] = [t.user(), t.user()]
    await Promise.all([t.admit(room, user), t.admit(room, listener)])
    const client = t.client(t.user({ role: 'anon' }).token) // whose key alone has no right here
    const other = await t.join(listener, room, { private: true })
    await client.realtime.setAuth(user.token)
    const member = await t.join(client, room, { private: true, ack: true })
    assert.equal(await member.send('hello'), 'ok')
    await other.hears('hello')
    member.isUndisturbed()
    await t.sql(t.expel(room, user))
    await member.isCut(`You no longer have permission to read from this Channel topic: ${room}`)
  },

  'another user takes over with their own rights': async (t) => {
    const room = t.topic()
    const [speaker, muted, listener] = [t.user(), t.user(), t.user()]
    await Promise.all([t.admit(room, speaker), t.admit(room, muted, false), t.admit(room, listener)])
    const { client, become } = changing(t, speaker)
    await become(speaker)
    const member = await t.join(client, room, { private: true, ack: true })
    const hears = await t.join(listener, room, { private: true })
    assert.equal(await member.send('as speaker'), 'ok')
    await become(muted)
    assert.equal(await member.send('as muted'), 'error', 'the right of the former user')
    await become(speaker)
    assert.equal(await member.send('as speaker again'), 'ok')
    await hears.hears('as speaker again')
    assert.deepEqual(hears.heard, ['as speaker', 'as speaker again'])
    member.isUndisturbed()

    // From here on what concerns the speaker is none of this member's business, and what concerns the muted is.
    await become(muted)
    assert.equal(await member.send('as muted again'), 'error')
    await t.sql(t.expel(room, speaker) + t.broadcast('speaker is gone', room))
    await member.hears('speaker is gone')
    member.isUndisturbed()
    await t.sql(t.expel(room, muted))
    await member.isCut(`You no longer have permission to read from this Channel topic: ${room}`)
  },

  'a user without the right to receive cannot take over': async (t) => {
    const room = t.topic()
    const [user, stranger] = [t.user(), t.user()]
    await t.admit(room, user)
    const { client, become } = changing(t, user)
    await become(user)
    const [member, fence] = await Promise.all([t.join(client, room, { private: true }), t.join(client, t.topic())])
    await become(stranger)
    await member.isCut(mayNotRead(room))
    await t.sql(t.broadcast('not for you', room) + t.broadcast('fence', fence.topic, { isPrivate: false }))
    await fence.hears('fence')
    assert.equal(client.tape.received('not for you'), false)
    fence.isUndisturbed()
  },

  'a channel ends when its token does': async (t) => {
    const room = t.topic()
    const user = t.user({ seconds: 2 })
    await t.admit(room, user)
    const { client, become } = changing(t, user)
    await become(user)
    const [member, open] = await Promise.all([t.join(client, room, { private: true }), t.join(client, t.topic())])
    await Promise.all([member, open].map((m) => m.isCut(/^Token has expired \d+ seconds ago$/)))
    assert.ok(Date.now() / 1000 >= user.claims.exp, 'it ends at the second that the token names, not before')
    assert.deepEqual(member.statuses, ['SUBSCRIBED', 'CLOSED'])

    // The socket is not concerned: with a fresh token the same client goes on.
    await become(t.user({ id: user.id }))
    await t.join(client, room, { private: true })
  },

  'a token renewed in time goes on': async (t) => {
    const room = t.topic()
    const user = t.user({ seconds: 2 })
    await t.admit(room, user)
    const { client, become } = changing(t, user)
    await become(user)
    const member = await t.join(client, room, { private: true })
    await become(t.user({ id: user.id }))
    const witness = await t.join(t.user({ seconds: 2 }), t.topic()) // its end comes after the old token's
    await witness.isCut(/^Token has expired \d+ seconds ago$/)
    await t.sql(t.broadcast('fence', room))
    await member.hears('fence')
    member.isUndisturbed()
  },

  'a token that the application renews by itself is taken over at a heartbeat': async (t) => {
    needs('accessToken')
    const room = t.topic()
    const user = t.user({ seconds: 2 })
    await t.admit(room, user)
    let current = user
    const client = t.client(t.user({ role: 'anon' }).token, { accessToken: async () => current.token, realtime: { heartbeatIntervalMs: 250 } })
    await client.realtime.setAuth()
    const member = await t.join(client, room, { private: true })
    current = t.user({ id: user.id })
    const witness = await t.join(t.user({ seconds: 2 }), t.topic()) // its end comes after the old token's
    await witness.isCut(/^Token has expired \d+ seconds ago$/)
    await t.sql(t.broadcast('fence', room))
    await member.hears('fence')
    member.isUndisturbed()
  },

  'after a connection that was lost the newest token joins again': async (t) => {
    const room = t.topic()
    const [former, user] = [t.user(), t.user()]
    await Promise.all([t.admit(room, former), t.admit(room, user)])
    const { client, become } = changing(t, former, { reconnectAfterMs: () => 100 })
    await become(former)
    const member = await t.join(client, room, { private: true, ack: true })
    await become(user)
    assert.equal(await member.send('taken over'), 'ok')
    await t.sql(t.expel(room, former))
    client.tape.cut()
    await member.log.until(() => member.statuses.filter((s) => s === 'SUBSCRIBED').length === 2, 'a second SUBSCRIBED')
    assert.equal(await member.send('again'), 'ok')
    assert.deepEqual(member.systems, [])
    await t.sql(t.expel(room, user))
    await member.isCut(`You no longer have permission to read from this Channel topic: ${room}`)
  },
}
