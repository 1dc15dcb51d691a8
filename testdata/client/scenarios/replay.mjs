import assert from 'node:assert/strict'

const numbers = (member) => member.log.all.filter((e) => e.event === 'n').map((e) => e.payload.n)

export default {
  'a client that keeps the ids of what it received is given the rest when it comes back': async (t) => {
    const room = t.topic()
    const user = t.user()
    await t.admit(room, user)
    const send = (...all) => t.sql(all.map((n) => t.broadcast('n', room, { payload: { n } })).join(' '))
    const client = t.client(user.token, { realtime: { reconnectAfterMs: () => 500 } })
    const after = []
    await send(-1)
    const member = await t.join(client, room, { private: true, broadcast: { replay: { after } } })
    member.channel.on('broadcast', { event: '*' }, ({ meta }) => after.push(meta.id))
    await send(1, 2)
    await member.log.until((e) => e.payload?.n === 2, 'the message before')
    client.tape.cut()
    await member.status('CHANNEL_ERROR')
    await send(3, 4)
    await member.log.until((e) => e.payload?.n === 4, 'the messages that were missed')
    await send(5)
    await member.log.until((e) => e.payload?.n === 5, 'a live message')
    assert.deepEqual(numbers(member), [1, 2, 3, 4, 5])
    assert.equal(new Set(after).size, 5)
    assert.deepEqual(member.systems, [])
  },

  'the newest messages since a moment are replayed': async (t) => {
    const room = t.topic()
    const user = t.user()
    await t.admit(room, user)
    await t.sql([1, 2, 3].map((n) => t.broadcast('n', room, { payload: { n } })).join(' '))
    const member = await t.join(user, room, { private: true, broadcast: { replay: { since: Date.now() - 60_000, limit: 2 } } })
    await member.log.until((e) => e.payload?.n === 3, 'the last')
    assert.deepEqual(numbers(member), [2, 3])
    member.isUndisturbed()
  },

  'what is missing is said': async (t) => {
    const room = t.topic()
    const user = t.user()
    await t.admit(room, user)
    const member = await t.join(user, room, { private: true, broadcast: { replay: { after: '00000000-0000-0000-0000-000000000000' } } })
    await member.system(/^ReplayGap: /)
  },
}
