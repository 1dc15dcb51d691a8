import assert from 'node:assert/strict'
import { unthrottled } from '../release.mjs'

// as is the config of a member that is told who is present, and is so itself under a key.
const as = (key, config) => ({ ...config, presence: { key, enabled: true } })

export default {
  'members see each other come, change and go': async (t) => {
    const topic = t.topic()
    const [ann, bob] = [await t.join(t.user(), topic, as('ann')), await t.join(t.user(), topic, as('bob'))]
    await bob.knows({})
    assert.equal(await ann.channel.track({ n: 1, deep: { list: [null] } }), 'ok')
    await Promise.all([ann, bob].map((m) => m.knows({ ann: [{ n: 1, deep: { list: [null] } }] })))
    assert.equal(await bob.channel.track({ n: 2 }), 'ok')
    assert.equal(await ann.channel.track({ n: 3 }), 'ok')
    await Promise.all([ann, bob].map((m) => m.knows({ ann: [{ n: 3 }], bob: [{ n: 2 }] })))
    const late = await t.join(t.user(), topic, as('late'))
    await late.knows({ ann: [{ n: 3 }], bob: [{ n: 2 }] })
    assert.equal(await ann.channel.unsubscribe(), 'ok')
    await Promise.all([bob, late].map((m) => m.knows({ bob: [{ n: 2 }] })))
    assert.ok(bob.log.all.some((e) => e.came === 'ann'), 'a join event')
    assert.ok(bob.log.all.some((e) => e.went === 'ann'), 'a leave event')
    bob.isUndisturbed()
  },

  'several members may share a key': async (t) => {
    const topic = t.topic()
    const one = await t.join(t.user(), topic, as('same'))
    const two = await t.join(t.user(), topic, as('same'))
    await one.channel.track({ n: 1 })
    await two.channel.track({ n: 2 })
    await Promise.all([one, two].map((m) => m.knows({ same: [{ n: 1 }, { n: 2 }] })))
    await one.channel.untrack()
    await Promise.all([one, two].map((m) => m.knows({ same: [{ n: 2 }] })))
  },

  'who names no key is given one': async (t) => {
    const topic = t.topic()
    const one = await t.join(t.user(), topic, as(''))
    const two = await t.join(t.user(), topic, as(''))
    await one.channel.track({ n: 1 })
    await two.channel.track({ n: 2 })
    await one.log.until(() => Object.keys(one.present).length === 2, 'two that are present')
    for (const key of Object.keys(one.present)) assert.match(key, /^[0-9a-f-]{36}$/)
  },

  'what was taken back can be tracked again': async (t) => {
    const topic = t.topic()
    const [ann, bob] = [await t.join(t.user(), topic, as('ann')), await t.join(t.user(), topic, as('bob'))]
    for (let i = 0; i < 3; i++) {
      assert.equal(await ann.channel.track({ n: 1 }), 'ok')
      await bob.knows({ ann: [{ n: 1 }] })
      await unthrottled()
      assert.equal(await ann.channel.untrack(), 'ok')
      await bob.knows({})
      await unthrottled()
    }
  },

  'a client that is gone is present no more': async (t) => {
    const topic = t.topic()
    const client = t.client(t.user().token)
    const [ann, bob] = [await t.join(client, topic, as('ann')), await t.join(t.user(), topic, as('bob'))]
    await ann.channel.track({ n: 1 })
    await bob.knows({ ann: [{ n: 1 }] })
    client.realtime.disconnect()
    await bob.knows({})
  },

  'who does not listen can be present': async (t) => {
    const topic = t.topic()
    const [ann, bob] = [await t.join(t.user(), topic), await t.join(t.user(), topic, as('bob'))]
    assert.equal(await ann.channel.track({ n: 1 }), 'ok')
    await bob.log.until(() => Object.keys(bob.present).length === 1, 'somebody present')
    ann.isUndisturbed()
  },

  'members of either wire version see each other': async (t) => {
    const topic = t.topic()
    const here = await t.join(t.user(), topic, as('here'))
    const there = await t.join(t.client(t.user().token, { realtime: { vsn: t.otherVsn } }), topic, as('there'))
    await here.channel.track({ text: 'grüße' })
    await there.channel.track({ text: '☃' })
    await Promise.all([here, there].map((m) => m.knows({ here: [{ text: 'grüße' }], there: [{ text: '☃' }] })))
  },

  'presence follows rights of its own': async (t) => {
    const room = t.topic()
    const [guest, host] = [t.user(), t.user()]
    const here = `(select realtime.topic()) = '${room}'`
    await t.allow('select', here)
    await t.allow('insert', `${here} and extension = 'presence' and exists (select from members m where m.user_id = (select auth.uid()) and 'room:' || m.room_id = '${room}')`)
    await t.admit(room, host)
    const seen = await t.join(host, room, as('host', { private: true }))
    const sees = await t.join(guest, room, as('guest', { private: true }))
    assert.equal(await sees.channel.track({ n: 1 }), 'error')
    assert.equal(await seen.channel.track({ n: 2 }), 'ok')
    await sees.knows({ host: [{ n: 2 }] })
    await t.sql(t.expel(room, host))
    await Promise.all([seen, sees].map((m) => m.knows({})))
    await seen.system(`PresenceDenied: You no longer have permission to be present on this Channel topic: ${room}`)
    assert.equal(await seen.channel.track({ n: 3 }), 'error')
    assert.deepEqual(seen.statuses, ['SUBSCRIBED'])
    sees.isUndisturbed()
  },
}
