import assert from 'node:assert/strict'
import { quote } from '../scenario.mjs'

export default {
  'send() arrives with the id of its row': async (t) => {
    const room = t.topic()
    const user = t.user()
    await t.admit(room, user)
    const member = await t.join(user, room, { private: true })
    const rows = await t.sql(t.broadcast('plain', room, { payload: { n: 1 } }) + t.broadcast('named', room, { payload: { id: 'mine' } })
      + `select event, id from realtime.messages where topic = ${quote(room)}`)
    const ids = Object.fromEntries(rows)
    const plain = await member.hears('plain')
    assert.deepEqual(plain.payload, { n: 1, id: ids.plain })
    assert.deepEqual(plain.meta, { id: ids.plain })
    const named = await member.hears('named')
    assert.deepEqual(named.payload, { id: 'mine' })
    assert.deepEqual(named.meta, { id: ids.named })
    assert.deepEqual(member.heard, ['plain', 'named'])
  },

  'send() reaches a public channel': async (t) => {
    const topic = t.topic()
    const member = await t.join(t.user({ role: 'anon' }), topic)
    await t.sql(t.broadcast('to all', topic, { payload: { n: 1 }, isPrivate: false }))
    const heard = await member.hears('to all')
    assert.deepEqual(heard.payload, { n: 1, id: heard.meta.id })
  },

  'send_binary() reaches members on version 2 as an ArrayBuffer': async (t) => {
    const room = t.topic()
    const user = t.user()
    await t.admit(room, user)
    const member = await t.join(user, room, { private: true })
    const rows = await t.sql(`select realtime.send_binary('\\x00ff10', 'bytes', ${quote(room)});` + t.broadcast('next', room)
      + `select event, id from realtime.messages where topic = ${quote(room)}`)
    await member.hears('next')
    if (t.vsn === '1.0.0') { // which cannot carry it: so it is told
      assert.deepEqual(member.heard, ['next'])
      await member.system(/^BinaryNotSupported: /)
      return
    } else {
      const { payload, meta } = await member.hears('bytes')
      assert.ok(payload instanceof ArrayBuffer, 'an ArrayBuffer')
      assert.deepEqual(new Uint8Array(payload), new Uint8Array([0x00, 0xff, 0x10]))
      assert.deepEqual(meta, { id: Object.fromEntries(rows).bytes })
      assert.deepEqual(member.heard, ['bytes', 'next'])
    }
    member.isUndisturbed()
  },

  'send() in a transaction that is rolled back reaches nobody': async (t) => {
    const room = t.topic()
    const user = t.user()
    await t.admit(room, user)
    const member = await t.join(user, room, { private: true })
    await t.sql(`begin; ${t.broadcast('undone', room)} rollback; ${t.broadcast('fence', room)}`)
    await member.hears('fence')
    assert.deepEqual(member.heard, ['fence'])
  },
}
