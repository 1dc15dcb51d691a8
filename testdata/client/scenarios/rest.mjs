import assert from 'node:assert/strict'
import { needs } from '../release.mjs'

const bytes = new Uint8Array([0, 1, 2, 0xfe, 0xff])

// unjoined is a channel of somebody who is not on it: what it sends goes over REST.
function unjoined(t, user, topic, config = {}) {
  return t.client(user.token).channel(topic, { config })
}

const message = (event, payload = {}) => ({ type: 'broadcast', event, payload })

export default {
  'send() without a subscription goes over REST': async (t) => {
    needs('sending over REST')
    const topic = t.topic()
    const member = await t.join(t.user(), topic)
    const channel = unjoined(t, t.user(), topic)
    assert.equal(await channel.send(message('first', { text: 'grüße', n: 1 })), 'ok')
    assert.equal(await channel.send(message('second', ['no', 'object'])), 'ok')
    assert.deepEqual((await member.hears('first')).payload, { text: 'grüße', n: 1 })
    assert.deepEqual((await member.hears('second')).payload, ['no', 'object'])
    assert.deepEqual(member.heard, ['first', 'second'])
  },

  'send() without a subscription follows the policies': async (t) => {
    needs('private sending over REST')
    const room = t.topic()
    const [user, mute] = [t.user(), t.user()]
    await Promise.all([t.admit(room, user), t.admit(room, mute, false)])
    const member = await t.join(user, room, { private: true })
    for (const somebody of [mute, t.user(), t.user({ role: 'anon' })]) {
      assert.equal(await unjoined(t, somebody, room, { private: true }).send(message('refused')), 'error')
    }
    assert.equal(await unjoined(t, user, room).send(message('to the public room')), 'ok')
    const channel = unjoined(t, user, room, { private: true })
    assert.equal(await channel.send(message('allowed')), 'ok')
    await member.hears('allowed')
    assert.deepEqual(member.heard, ['allowed'])
    await t.sql(t.expel(room, user))
    assert.equal(await channel.send(message('too late')), 'error')
  },

  'httpSend() carries JSON of any kind': async (t) => {
    needs('httpSend')
    const topic = `${t.topic()}/ü & x`
    const member = await t.join(t.user(), topic)
    const channel = unjoined(t, t.user(), topic)
    const payloads = { 'an object': { private: true, deep: [{ n: 1 }] }, 'a list': [1, 'x', null], 'a text/?#': 'text' }
    for (const [event, payload] of Object.entries(payloads)) {
      assert.deepEqual(await channel.httpSend(event, payload), { success: true })
      assert.deepEqual((await member.hears(event)).payload, payload)
    }
  },

  'httpSend() carries bytes to members on version 2': async (t) => {
    needs('httpSend')
    const topic = t.topic()
    const member = await t.join(t.user(), topic)
    const channel = unjoined(t, t.user(), topic)
    assert.deepEqual(await channel.httpSend('bytes', bytes.buffer), { success: true })
    assert.deepEqual(await channel.httpSend('next', {}), { success: true })
    await member.hears('next')
    if (t.vsn === '1.0.0') { // which cannot carry them
      assert.deepEqual(member.heard, ['next'])
      return
    }
    const { payload } = await member.hears('bytes')
    assert.ok(payload instanceof ArrayBuffer, 'an ArrayBuffer')
    assert.deepEqual(new Uint8Array(payload), bytes)
  },

  'httpSend() that the policies refuse is an error': async (t) => {
    needs('httpSend')
    const room = t.topic()
    const user = t.user()
    await t.admit(room, user)
    const member = await t.join(user, room, { private: true })
    await assert.rejects(unjoined(t, t.user(), room, { private: true }).httpSend('refused', {}), { message: 'Unauthorized' })
    const channel = unjoined(t, user, room, { private: true })
    assert.deepEqual(await channel.httpSend('allowed', {}), { success: true })
    await member.hears('allowed')
    assert.deepEqual(member.heard, ['allowed'])
    await t.sql(t.expel(room, user))
    await assert.rejects(channel.httpSend('too late', {}), { message: 'Unauthorized' })
  },

  'httpSend() to be stored is refused, not sent unstored': async (t) => {
    needs('httpSend')
    const room = t.topic()
    const user = t.user()
    await t.admit(room, user)
    await assert.rejects(unjoined(t, user, room, { private: true }).httpSend('kept', {}, { persist: true }), /persist/)
  },
}
