import assert from 'node:assert/strict'

const bytes = new Uint8Array([0, 1, 2, 0xfe, 0xff])

export default {
  'a sender that asks for its own broadcasts receives them': async (t) => {
    const a = await t.join(t.user(), t.topic(), { self: true })
    await a.send('hello', { text: 'grüße', n: 1 })
    assert.deepEqual((await a.hears('hello')).payload, { text: 'grüße', n: 1 })
    a.isUndisturbed()
  },

  'a broadcast goes to the others and not back': async (t) => {
    const topic = t.topic()
    const user = t.user()
    const [a, sameUser, other] = await Promise.all([t.join(user, topic), t.join(user, topic), t.join(t.user(), topic)])
    await a.send('hello')
    await Promise.all([sameUser.hears('hello'), other.hears('hello')])
    await other.send('answer')
    await a.hears('answer')
    assert.deepEqual(a.heard, ['answer'])
  },

  'a sender that asks for acknowledgement gets it': async (t) => {
    const topic = t.topic()
    const [a, b] = await Promise.all([t.join(t.user(), topic, { ack: true }), t.join(t.user(), topic)])
    assert.equal(await a.send('hello'), 'ok')
    await b.hears('hello')
  },

  'a member of either wire version understands the other': async (t) => {
    const topic = t.topic()
    const here = await t.join(t.user(), topic)
    const there = await t.join(t.client(t.user().token, { realtime: { vsn: t.otherVsn } }), topic)
    const payload = { list: [1, { deep: null }], text: 'zwölf ☃', big: 1e15 }
    await here.send('out', payload)
    assert.deepEqual((await there.hears('out')).payload, payload)
    await there.send('back', payload)
    assert.deepEqual((await here.hears('back')).payload, payload)
  },

  'bytes from a client reach members on version 2 as an ArrayBuffer': async (t) => {
    const topic = t.topic()
    const sender = await t.join(t.client(t.user().token, { realtime: { vsn: '2.0.0' } }), topic, { ack: true })
    const member = await t.join(t.user(), topic)
    assert.equal(await sender.send('bytes', bytes.buffer), 'ok')
    await sender.send('next')
    await member.hears('next')
    if (t.vsn === '1.0.0') { // which cannot carry them
      assert.deepEqual(member.heard, ['next'])
      return
    }
    const { payload } = await member.hears('bytes')
    assert.ok(payload instanceof ArrayBuffer, 'an ArrayBuffer')
    assert.deepEqual(new Uint8Array(payload), bytes)
    assert.deepEqual(member.heard, ['bytes', 'next'])
  },

  'a setting of the wrong type is refused by its name': async (t) => {
    const topic = t.topic()
    assert.match(await t.refused(t.user(), topic, { private: 'yes' }), /^InvalidJoinPayload: config\.private: /)
    assert.match(await t.refused(t.user(), topic, { ack: 1 }), /^InvalidJoinPayload: config\.broadcast\.ack: /)
  },

  'a channel can be removed and joined again in one breath': async (t) => {
    const topic = t.topic()
    const client = t.client(t.user().token)
    const first = await t.join(client, topic)
    const removed = client.removeChannel(first.channel)
    const second = t.knock(client, topic, { ack: true, self: true })
    assert.notEqual(second.channel, first.channel)
    await second.status('SUBSCRIBED')
    assert.equal(await removed, 'ok')
    assert.equal(await second.send('still here'), 'ok')
    await second.hears('still here')
    assert.deepEqual(first.heard, [])
    assert.deepEqual(first.statuses, ['SUBSCRIBED', 'CLOSED'])
    second.isUndisturbed()
  },

  'a channel that asks is told when messages from the database arrive': async (t) => {
    const topic = t.topic()
    const member = await t.join(t.user(), topic, { replication_ready: true })
    const { system } = await member.system('Replication connection established')
    assert.deepEqual(system, { extension: 'system', status: 'ok', message: 'Replication connection established', channel: topic })
    await t.sql(t.broadcast('from sql', topic, { isPrivate: false }))
    await member.hears('from sql')
    assert.equal(member.systems.length, 1)
  },
}
