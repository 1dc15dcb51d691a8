import assert from 'node:assert/strict'

const noLonger = (topic) => `You no longer have permission to read from this Channel topic: ${topic}`
const mayNotWrite = (topic) => new RegExp(`^(\\w+: )?You do not have permissions to write to this Channel topic: ${topic}$`)

export default {
  'a send without a right is answered with an error': async (t) => {
    const room = t.topic()
    const [muted, other] = [t.user(), t.user()]
    await Promise.all([t.admit(room, muted, false), t.admit(room, other)])
    const member = await t.join(muted, room, { private: true, ack: true })
    const listener = await t.join(other, room, { private: true })
    assert.equal(await member.send('unheard'), 'error')
    await t.sql(t.broadcast('fence', room))
    await Promise.all([member.hears('fence'), listener.hears('fence')])
    assert.deepEqual(listener.heard, ['fence'])
    member.isUndisturbed()
  },

  'a send without a right that asks for no answer is told by a system message': async (t) => {
    const room = t.topic()
    const user = t.user()
    await t.admit(room, user, false)
    const member = await t.join(user, room, { private: true })
    await member.send('unheard')
    const { system } = await member.system(mayNotWrite(room))
    assert.equal(system.status, 'error')
    await t.sql(t.broadcast('fence', room))
    await member.hears('fence')
    assert.deepEqual(member.statuses, ['SUBSCRIBED'])
  },

  'a membership that is deleted closes the channel': async (t) => {
    const room = t.topic()
    const [leaver, stayer] = [t.user(), t.user()]
    await Promise.all([t.admit(room, leaver), t.admit(room, stayer)])
    const client = t.client(leaver.token)
    const [cut, elsewhere, stays] = await Promise.all([
      t.join(client, room, { private: true }), t.join(client, t.topic()), t.join(stayer, room, { private: true })])
    await t.sql(t.expel(room, leaver))
    await cut.isCut(noLonger(room))
    assert.deepEqual(cut.statuses, ['SUBSCRIBED', 'CLOSED'])

    await t.sql(t.broadcast('fence', elsewhere.topic, { isPrivate: false }) + t.broadcast('fence', room))
    await Promise.all([elsewhere.hears('fence'), stays.hears('fence')])
    elsewhere.isUndisturbed()
    stays.isUndisturbed()
    assert.match(await t.refused(leaver, room, { private: true }), /^Unauthorized: /)
  },

  'nothing sent behind a revocation in its transaction is received': async (t) => {
    const room = t.topic()
    const [leaver, stayer] = [t.user(), t.user()]
    await Promise.all([t.admit(room, leaver), t.admit(room, stayer)])
    const client = t.client(leaver.token)
    const [cut, fence, stays] = await Promise.all([
      t.join(client, room, { private: true }), t.join(client, t.topic()), t.join(stayer, room, { private: true })])
    await t.sql(t.broadcast('before', room))
    await cut.hears('before')
    await t.sql(`begin; ${t.expel(room, leaver)} ${t.broadcast('behind', room, { payload: { text: 'behind your back' } })} commit;
      ${t.broadcast('later', room)} ${t.broadcast('fence', fence.topic, { isPrivate: false })}`)
    await Promise.all([stays.hears('later'), cut.isCut(noLonger(room)), fence.hears('fence')])
    assert.deepEqual(stays.heard, ['before', 'behind', 'later'])
    assert.deepEqual(cut.heard, ['before'])
    for (const text of ['behind', 'later']) assert.equal(client.tape.received(text), false, `${text} reached the client's machine`)
    stays.isUndisturbed()
  },

  'a revocation that is rolled back revokes nothing': async (t) => {
    const room = t.topic()
    const user = t.user()
    await t.admit(room, user)
    const member = await t.join(user, room, { private: true, ack: true })
    await t.sql(`begin; ${t.expel(room, user)} ${t.broadcast('undone', room)} rollback; ${t.broadcast('fence', room)}`)
    await member.hears('fence')
    assert.deepEqual(member.heard, ['fence'])
    assert.equal(await member.send('hello'), 'ok')
    member.isUndisturbed()
  },

  'a muted member who is unmuted can send on the open session': async (t) => {
    const room = t.topic()
    const [muted, other] = [t.user(), t.user()]
    await Promise.all([t.admit(room, muted, false), t.admit(room, other)])
    const member = await t.join(muted, room, { private: true, ack: true })
    const listener = await t.join(other, room, { private: true })
    assert.equal(await member.send('muted'), 'error')
    // The message of the same transaction tells the client that the gain has arrived.
    await t.sql(`begin; update members set may_send = true where user_id = '${muted.id}'; ${t.broadcast('speak', room)} commit`)
    await member.hears('speak')
    assert.equal(await member.send('unmuted'), 'ok')
    await listener.hears('unmuted')
    assert.deepEqual(listener.heard, ['speak', 'unmuted'])
    member.isUndisturbed()
  },

  'a member who loses only the right to send still receives': async (t) => {
    const room = t.topic()
    const [user, other] = [t.user(), t.user()]
    await Promise.all([t.admit(room, user), t.admit(room, other)])
    const member = await t.join(user, room, { private: true, ack: true })
    const listener = await t.join(other, room, { private: true })
    assert.equal(await member.send('first'), 'ok')
    await t.sql(`begin; update members set may_send = false where user_id = '${user.id}'; ${t.broadcast('hush', room)} commit`)
    await member.hears('hush')
    assert.equal(await member.send('second'), 'error')
    await t.sql(t.broadcast('fence', room))
    await Promise.all([member.hears('fence'), listener.hears('fence')])
    assert.deepEqual(listener.heard, ['first', 'hush', 'fence'])
    member.isUndisturbed()
  },
}
