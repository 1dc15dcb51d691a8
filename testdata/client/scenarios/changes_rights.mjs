import assert from 'node:assert/strict'
import { quote } from '../scenario.mjs'

const any = (table, more) => ({ event: '*', schema: 'public', table, ...more })

// own is a table of whose rows everybody sees their own.
const own = (t, more = '') => t.table('id int primary key, owner uuid, text text', `alter table TABLE enable row level security;
  create policy own on TABLE for select to authenticated using (owner = (select auth.uid())); ${more}`)

// ofRooms is a table of whose rows the members of their room see theirs.
const ofRooms = (t, more = '') => t.table('id int primary key, room text, text text', `alter table TABLE enable row level security;
  create policy room on TABLE for select to authenticated using (exists (select from members m where m.room_id = room and m.user_id = (select auth.uid()))); ${more}`)

const roomOf = (topic) => topic.slice('room:'.length)

export default {
  'two users are told of their own rows': async (t) => {
    const table = await own(t)
    const [anna, berta] = [t.user(), t.user()]
    const [a, b] = await Promise.all([t.follow(anna, [any(table)]), t.follow(berta, [any(table)])])
    const row = (id, user) => `insert into ${table} values (${id}, ${quote(user.id)}, 'x');`
    await t.sql(row(1, anna) + row(2, berta) + row(3, anna) + row(4, berta))
    await t.sql(`update ${table} set text = 'y'; ${row(5, anna)} ${row(6, berta)}`)
    await Promise.all([a.toldOf(5), b.toldOf(6)])
    assert.deepEqual(a.ids(), [1, 3, 1, 3, 5])
    assert.deepEqual(b.ids(), [2, 4, 2, 4, 6])
    assert.ok(!a.log.all.some((e) => JSON.stringify(e).includes(berta.id)), `nothing of the other's`)
  },

  'who may bypass row level security is told of all, and who has no policy of none': async (t) => {
    const table = await own(t)
    const [nobody, service, user] = [t.user({ role: 'anon' }), t.user({ role: 'service_role' }), t.user()]
    const [none, all, his] = await Promise.all([nobody, service, user].map((who) => t.follow(who, [any(table)])))
    await t.sql(`insert into ${table} values (1, ${quote(user.id)}), (2, gen_random_uuid()), (3, ${quote(user.id)})`)
    await Promise.all([all.toldOf(3), his.toldOf(3)])
    assert.deepEqual([none.ids(), his.ids(), all.ids()], [[], [1, 3], [1, 2, 3]])
  },

  'a membership that is given or taken by a COMMIT counts for the next change': async (t) => {
    const table = await ofRooms(t)
    const room = t.topic()
    const [leaver, stayer] = [t.user(), t.user()]
    await Promise.all([t.admit(room, leaver), t.admit(room, stayer)])
    const [cut, stays] = await Promise.all([t.follow(leaver, [any(table)]), t.follow(stayer, [any(table)])])
    const row = (id) => `insert into ${table} values (${id}, ${quote(roomOf(room))}, 'x');`
    await t.sql(row(1))
    await Promise.all([cut.toldOf(1), stays.toldOf(1)])
    await t.sql(`begin; ${t.expel(room, leaver)} ${row(2)} commit;`)
    await t.sql(row(3))
    await stays.toldOf(3)
    await t.admit(room, leaver)
    await t.sql(row(4))
    await Promise.all([cut.toldOf(4), stays.toldOf(4)])
    assert.deepEqual([cut.ids(), stays.ids()], [[1, 4], [1, 2, 3, 4]])
    assert.deepEqual(cut.statuses, ['SUBSCRIBED'])
  },

  'a deleted row is told to those who could see it, by its key': async (t) => {
    for (const identity of ['', 'alter table TABLE replica identity full']) {
      const table = await own(t, identity)
      const [anna, berta] = [t.user(), t.user()]
      const [a, b] = await Promise.all([t.follow(anna, [any(table)]), t.follow(berta, [any(table)])])
      await t.sql(`insert into ${table} values (1, ${quote(anna.id)}, 'secret'), (2, ${quote(berta.id)}, 'secret')`)
      await Promise.all([a.toldOf(1), b.toldOf(2)])
      await t.sql(`delete from ${table}`)
      await Promise.all([a.toldOf(1, 'DELETE'), b.toldOf(2, 'DELETE')])
      await t.sql(`insert into ${table} values (3, ${quote(anna.id)}), (4, ${quote(berta.id)})`)
      await Promise.all([a.toldOf(3), b.toldOf(4)])
      assert.deepEqual([a.ids(), b.ids()], [[1, 1, 3], [2, 2, 4]])
      assert.equal((await a.toldOf(1, 'DELETE')).old.id, 1)
    }
  },

  'a row that is given to somebody else': async (t) => {
    const table = await own(t)
    const [anna, berta] = [t.user(), t.user()]
    const [a, b] = await Promise.all([t.follow(anna, [any(table)]), t.follow(berta, [any(table)])])
    await t.sql(`insert into ${table} values (1, ${quote(anna.id)}, 'x')`)
    await a.toldOf(1)
    await t.sql(`update ${table} set owner = ${quote(berta.id)}`)
    assert.equal((await b.toldOf(1, 'UPDATE')).new.owner, berta.id)
    await t.sql(`insert into ${table} values (2, ${quote(anna.id)}, 'x')`)
    await a.toldOf(2)
    assert.deepEqual(a.changes().map(([type, row]) => `${type} ${row.id}`), ['INSERT 1', 'INSERT 2'])
  },

  'only columns that may be read are told': async (t) => {
    const table = await t.table('id int primary key, open text, secret text', `revoke select on TABLE from authenticated; grant select (id, open) on TABLE to authenticated;
      alter table TABLE replica identity full`)
    const [user, service] = await Promise.all([t.follow(t.user(), [any(table)]), t.follow(t.user({ role: 'service_role' }), [any(table)])])
    await t.sql(`insert into ${table} values (1, 'o', 's'); update ${table} set secret = 'S'`)
    await Promise.all([user.toldOf(1, 'UPDATE'), service.toldOf(1, 'UPDATE')])
    assert.deepEqual(user.changes(), [['INSERT', { id: 1, open: 'o' }, {}], ['UPDATE', { id: 1, open: 'o' }, { id: 1, open: 'o' }]])
    assert.deepEqual(service.changes()[1], ['UPDATE', { id: 1, open: 'o', secret: 'S' }, { id: 1, open: 'o', secret: 's' }])
  },

  'without SELECT a change is told without the row, and once which grant is missing': async (t) => {
    const table = await t.table('id int primary key, text text', 'revoke select on TABLE from anon, authenticated')
    const member = await t.follow(t.user(), [any(table)])
    const { system } = await member.system(new RegExp(`grant select on public\\.${table} to authenticated;`))
    assert.equal(system.status, 'error')
    await t.sql(`insert into ${table} values (1, 'secret')`)
    const change = await member.told(() => true, 'without a row')
    assert.deepEqual([change.eventType, change.errors, change.new], ['INSERT', ['Error 401: Unauthorized'], {}])
    await t.sql(`grant select on ${table} to authenticated`)
    await t.sql(`insert into ${table} values (2, 'open')`)
    await member.toldOf(2)
    assert.equal(member.systems.filter((m) => m.includes('grant select')).length, 1)
    assert.ok(!member.log.all.some((e) => JSON.stringify(e).includes('secret')))
  },

  'a table without a primary key': async (t) => {
    const table = await t.table('n int', `alter table TABLE replica identity full; alter table TABLE enable row level security;
      create policy all_rows on TABLE for select to authenticated using (true)`)
    const member = await t.follow(t.user(), [any(table)])
    await t.sql(`insert into ${table} values (1)`)
    const change = await member.told(() => true)
    assert.deepEqual([change.eventType, change.errors, change.new], ['INSERT', ['Error 400: Bad Request, no primary key'], {}])
  },

  'another token means other rows, and is told': async (t) => {
    const table = await own(t)
    const [anna, berta] = [t.user(), t.user()]
    const client = t.client(t.user({ role: 'anon' }).token)
    await client.realtime.setAuth(anna.token)
    const member = await t.follow(client, [any(table)])
    const rows = (id) => t.sql(`insert into ${table} values (${id}, ${quote(anna.id)}), (${id + 1}, ${quote(berta.id)})`)
    await rows(1)
    await member.toldOf(1)
    await client.realtime.setAuth(berta.token)
    await member.subscribed(2)
    await rows(3)
    await member.toldOf(4)
    assert.deepEqual(member.ids(), [1, 4])
    assert.deepEqual(member.statuses, ['SUBSCRIBED'])
  },

  'policies on claims': async (t) => {
    const table = await t.table('id int primary key, plan text', `alter table TABLE enable row level security;
      create policy plan on TABLE for select to authenticated using (plan = (select auth.jwt() -> 'app_metadata' ->> 'plan'))`)
    const [free, gold] = await Promise.all(['free', 'gold'].map((plan) => t.follow(t.user({ app_metadata: { plan } }), [any(table)])))
    await t.sql(`insert into ${table} values (1, 'free'), (2, 'gold'), (3, 'free'), (4, 'gold')`)
    await Promise.all([free.toldOf(3), gold.toldOf(4)])
    assert.deepEqual([free.ids(), gold.ids()], [[1, 3], [2, 4]])
  },

  'a policy that is changed counts for what is changed afterwards': async (t) => {
    const table = await own(t)
    const user = t.user()
    const member = await t.follow(user, [any(table)])
    await t.sql(`insert into ${table} values (1, ${quote(user.id)})`)
    await member.toldOf(1)
    await t.sql(`alter policy own on ${table} using (text = 'open')`)
    await t.sql(`insert into ${table} values (2, ${quote(user.id)}, 'closed'), (3, null, 'open')`)
    await member.toldOf(3)
    assert.deepEqual(member.ids(), [1, 3])
  },

  'changes on a private channel end with the right to it': async (t) => {
    const table = await t.table('id int primary key')
    const room = t.topic()
    const [leaver, stayer] = [t.user(), t.user()]
    await Promise.all([t.admit(room, leaver), t.admit(room, stayer)])
    const [cut, stays] = await Promise.all([leaver, stayer].map((who) => t.join(who, room, { private: true, changes: [any(table)] })))
    await Promise.all([cut.subscribed(), stays.subscribed()])
    await t.sql(`insert into ${table} values (1)`)
    await Promise.all([cut.toldOf(1), stays.toldOf(1)])
    await t.sql(t.expel(room, leaver))
    await cut.isCut(`You no longer have permission to read from this Channel topic: ${room}`)
    await t.sql(`insert into ${table} values (2)`)
    await stays.toldOf(2)
    assert.deepEqual([cut.ids(), stays.ids()], [[1], [1, 2]])
  },
}
