import assert from 'node:assert/strict'
import { unthrottled } from '../release.mjs'
import { quote } from '../scenario.mjs'

const any = (table, more) => ({ event: '*', schema: 'public', table, ...more })

// filtered are filters on the columns of the table below, and the ids of the rows that each lets through.
const filtered = [
  ['n=eq.2', [2]],
  ['n=neq.2', [1, 3]],
  ['n=lt.2', [1]],
  ['n=lte.2', [1, 2]],
  ['n=gt.2', [3]],
  ['n=gte.2', [2, 3]],
  ['n=in.(1,3)', [1, 3]],
  ['n=not.in.(1,3)', [2]],
  ['n=is.null', [4]],
  ['n=not.is.null', [1, 2, 3]],
  ['b=is.true', [1]],
  ['b=is.false', [2]],
  ['b=is.unknown', [3, 4]],
  ['n=isdistinct.2', [1, 3, 4]],
  ['n=not.isdistinct.2', [2]],
  ['name=eq.Anna', [1]],
  ['name=eq."Berta, Clara"', [2]],
  ['name=in.("Berta, Clara",Anna)', [1, 2]],
  ['name=like.%nn%', [1]],
  ['name=like.%NN%', []],
  ['name=ilike.%NN%', [1]],
  ['name=not.ilike.%nn%', [2, 3]],
  ['name=match.^B.*a$', [2]],
  ['name=match.^b', []],
  ['name=imatch.^b', [2]],
  ['name=not.match.^B', [1, 3]],
  ['who=eq.6f1e0f0e-0000-4000-8000-000000000001', [1]],
  ['at=gt.2024-02-29T12:00:00Z', [3]],
  ['price=eq.1.5', [1, 2]],
  ['n=gte.2,name=like.B%', [2]],
  ['n=gte.2,n=lte.2', [2]],
  ['', [1, 2, 3, 4]],
]

export default {
  'a row is inserted, changed and deleted': async (t) => {
    const table = await t.table('id int primary key, name text')
    const member = await t.follow(t.user(), [any(table)])
    await t.sql(`insert into ${table} values (1, 'a')`)
    const inserted = await member.toldOf(1)
    await t.sql(`update ${table} set name = 'b'`)
    const updated = await member.toldOf(1, 'UPDATE')
    await t.sql(`delete from ${table}`)
    const deleted = await member.toldOf(1, 'DELETE')
    for (const change of [inserted, updated, deleted]) {
      assert.match(change.commit_timestamp, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/)
      assert.deepEqual([change.schema, change.table, change.errors], ['public', table, null])
    }
    assert.deepEqual(member.changes(), [
      ['INSERT', { id: 1, name: 'a' }, {}], ['UPDATE', { id: 1, name: 'b' }, { id: 1 }], ['DELETE', {}, { id: 1 }]])
    assert.deepEqual(member.statuses, ['SUBSCRIBED'])
    assert.deepEqual(member.systems, ['Subscribed to PostgreSQL'])
  },

  'a transaction is told when it commits, in its order': async (t) => {
    const table = await t.table('id int primary key')
    const member = await t.follow(t.user(), [any(table)])
    await t.sql(`begin; insert into ${table} values (1); rollback; begin; insert into ${table} select * from generate_series(2, 300); commit; insert into ${table} values (301)`)
    await member.toldOf(301)
    assert.deepEqual(member.ids(), Array.from({ length: 300 }, (_, i) => i + 2))
  },

  'each kind of change is told to who asks for it': async (t) => {
    const table = await t.table('id int primary key, n int')
    const kinds = ['INSERT', 'UPDATE', 'DELETE']
    const member = await t.follow(t.user(), kinds.map((event) => any(table, { event })))
    await t.sql(`insert into ${table} values (1, 1); update ${table} set n = 2; delete from ${table}; insert into ${table} values (2, 1)`)
    await member.toldOf(2)
    assert.deepEqual(kinds.map((_, entry) => member.changes(entry).map(([type]) => type)), [['INSERT', 'INSERT'], ['UPDATE'], ['DELETE']])
  },

  'several entries of a channel have ids of their own': async (t) => {
    const [one, other] = [await t.table('id int primary key'), await t.table('id int primary key')]
    const member = await t.follow(t.user(), [any(one), any(other), any(one, { filter: 'id=gt.1' }), any(one, { event: 'DELETE' })])
    await t.sql(`insert into ${one} values (1); insert into ${other} values (1); insert into ${one} values (2); delete from ${one} where id = 1; insert into ${one} values (3)`)
    await member.toldOf(3)
    await member.toldOf(1, 'DELETE')
    assert.deepEqual([0, 1, 2, 3].map((entry) => member.ids(entry)), [[1, 2, 1, 3], [1], [2, 3], [1]])
  },

  'two channels of one socket are told each of its own': async (t) => {
    const table = await t.table('id int primary key')
    const client = t.client(t.user().token)
    const [even, odd] = await Promise.all([t.follow(client, [any(table, { filter: 'id=in.(2,4)' })]), t.follow(client, [any(table, { filter: 'id=in.(1,3,5)' })])])
    await t.sql(`insert into ${table} select * from generate_series(1, 5)`)
    await Promise.all([even.toldOf(4), odd.toldOf(5)])
    assert.deepEqual([even.ids(), odd.ids()], [[2, 4], [1, 3, 5]])
  },

  'every operator of filters': async (t) => {
    const table = await t.table('id int primary key, n int, name text, b boolean, who uuid, at timestamptz, price numeric')
    const member = await t.follow(t.user(), filtered.map(([filter]) => any(table, filter ? { filter } : {})))
    const row = (id, ...values) => `insert into ${table} values (${[id, ...values].join(', ')});`
    await t.sql(row(1, 1, `'Anna'`, true, `'6f1e0f0e-0000-4000-8000-000000000001'`, `'2024-02-29 12:00+00'`, 1.5)
      + row(2, 2, `'Berta, Clara'`, false, `'6f1e0f0e-0000-4000-8000-000000000002'`, `'2024-02-29 10:00+00'`, `'1.50'`)
      + row(3, 3, `'C'`, 'null', 'null', `'2024-02-29 13:30+01'`, 2)
      + row(4, 'null', 'null', 'null', 'null', 'null', 'null'))
    await member.toldOf(4)
    filtered.forEach(([filter, ids], entry) => assert.deepEqual(member.ids(entry), ids, filter))
  },

  'a filter counts for updates as the row is then, and for deletes by what is known of the row': async (t) => {
    const table = await t.table('id int primary key, n int')
    const full = await t.table('id int primary key, n int', 'alter table TABLE replica identity full')
    const member = await t.follow(t.user(), [any(table, { filter: 'n=eq.1' }), any(full, { filter: 'n=eq.1' }), any(table, { filter: 'id=eq.2' })])
    for (const of of [table, full]) {
      await t.sql(`insert into ${of} values (1, 1), (2, 2); update ${of} set n = 3 - n; delete from ${of}; insert into ${of} values (3, 1)`)
    }
    await member.told((c) => c.table === full && c.new.id === 3, 'the last')
    await member.told((c) => c.table === table && c.new.id === 3, 'the last but one')
    const told = (entry) => member.changes(entry).map(([type, row, old]) => `${type} ${row.id ?? old.id}`)
    assert.deepEqual(told(0), ['INSERT 1', 'UPDATE 2', 'INSERT 3'])
    assert.deepEqual(told(1), ['INSERT 1', 'UPDATE 2', 'DELETE 2', 'INSERT 3'])
    assert.deepEqual(told(2), ['INSERT 2', 'UPDATE 2', 'DELETE 2'])
  },

  'wildcards for schema and table': async (t) => {
    const schema = `s_${t.topic('').slice(1, 9)}`
    await t.sql(`create schema ${schema}; grant usage on schema ${schema} to anon, authenticated`)
    const [one, other] = [await t.table('id int primary key', '', { schema }), await t.table('id int primary key', '', { schema })]
    const outside = await t.table('id int primary key')
    const [ofSchema, starred, everything] = await Promise.all([
      t.follow(t.user(), [{ event: '*', schema }]), t.follow(t.user(), [{ event: 'INSERT', schema, table: '*' }]),
      t.follow(t.user(), [{ event: '*', schema: '*' }])])
    await t.sql(`insert into ${outside} values (0); insert into ${schema}.${one} values (1); insert into ${schema}.${other} values (2)`)
    for (const member of [ofSchema, starred]) {
      await member.toldOf(2)
      assert.deepEqual(member.ids(), [1, 2])
    }
    await everything.told((c) => c.schema === schema && c.table === other)
    const seen = everything.log.all.filter((e) => e.change && [one, other, outside].includes(e.change.table)).map((e) => e.change.new.id)
    assert.deepEqual(seen, [0, 1, 2]) // beside what other scenarios do
  },

  'a name means one table and no pattern': async (t) => {
    const table = await t.table('id int primary key', '', { prefix: 'a_b' })
    const alike = table.replace('a_b', 'axb')
    await t.sql(`create table ${alike} (id int primary key); grant select on ${alike} to authenticated; alter publication supabase_realtime add table ${alike}`)
    const member = await t.follow(t.user(), [any(table)])
    await t.sql(`insert into ${alike} values (1); insert into ${table} values (2)`)
    await member.toldOf(2)
    assert.deepEqual(member.ids(), [2])
  },

  'a table that is published later is subscribed to then': async (t) => {
    const table = `t_${t.topic('').slice(1, 9)}`
    await t.sql(`create table ${table} (id int primary key); grant select on ${table} to authenticated`)
    const member = await t.join(t.user(), t.topic(), { changes: [any(table)] })
    const { system } = await member.system(/^Unable to subscribe to changes with given parameters\. Please check Realtime is enabled/)
    assert.equal(system.message, 'Unable to subscribe to changes with given parameters. Please check Realtime is enabled for the given connect parameters: '
      + `[event: *, schema: public, table: ${table}, filters: [], select: nil]`)
    assert.deepEqual([system.status, system.extension, system.channel], ['error', 'postgres_changes', member.topic])
    await t.sql(`alter publication supabase_realtime add table ${table}`)
    await member.subscribed()
    await t.sql(`insert into ${table} values (1)`)
    await member.toldOf(1)
    await t.sql(`alter publication supabase_realtime drop table ${table}`)
    await member.log.until((e) => e.system && member.systems.filter((m) => m === system.message).length === 2, 'to be told that it is not published any more')
    assert.deepEqual(member.statuses, ['SUBSCRIBED'])
  },

  'a table that joins a schema which is followed is told of': async (t) => {
    const schema = `s_${t.topic('').slice(1, 9)}`
    await t.sql(`create schema ${schema}; grant usage on schema ${schema} to authenticated`)
    const first = await t.table('id int primary key', '', { schema })
    const member = await t.follow(t.user(), [{ event: '*', schema }])
    const second = await t.table('id int primary key', '', { schema })
    await t.sql(`insert into ${schema}.${second} values (1); insert into ${schema}.${first} values (2)`)
    await member.toldOf(2)
    assert.deepEqual(member.ids(), [1, 2])
  },

  'what is wrong with an entry is told, and the channel stays': async (t) => {
    const table = await t.table('id int primary key, n int, secret text', 'revoke select on TABLE from authenticated; grant select (id, n) on TABLE to authenticated')
    const exception = (entry, text) => `Unable to subscribe to changes with given parameters. An exception happened so please check your connect parameters: ${entry}. Exception: ERROR ${text}`
    const shown = (filters, select = 'nil') => `[event: *, schema: public, table: ${table}, filters: [${filters}], select: ${select}]`
    for (const [entry, message] of [
      [any(table, { filter: 'wrong' }), 'Error parsing `filter` params: ["wrong"]'],
      [any(table, { filter: 'id=eq.1,' }), 'Error parsing `filter` params: filter must not contain empty segments (check for extra commas)'],
      [any(table, { filter: 'id=in.1' }), 'Error parsing `filter` params: `in` filter value must be wrapped by parentheses'],
      [any(table, { filter: 'nothing=eq.1' }), exception(shown('{"nothing", "eq", "1", false}'), 'P0001 (raise_exception) invalid column for filter nothing')],
      [any(table, { filter: 'secret=eq.1' }), exception(shown('{"secret", "eq", "1", false}'), 'P0001 (raise_exception) invalid column for filter secret')],
      [any(table, { filter: 'n=eq.x' }), exception(shown('{"n", "eq", "x", false}'), '22P02 (invalid_text_representation) invalid input syntax for type integer: "x"')],
      [any(table, { select: ['id', 'secret'] }), exception(shown('', '["id", "secret"]'), 'P0001 (raise_exception) invalid column for select secret')],
      [{ event: '*', schema: 'public', select: ['id'] }, 'Column selection is not supported for wildcard subscriptions. Provide an explicit schema and table name.'],
      [any('nowhere'), /^Unable to subscribe to changes with given parameters\. Please check Realtime is enabled for the given connect parameters: \[event: \*, schema: public, table: nowhere, filters: \[\], select: nil\]$/],
      [{ event: '*', filter: 'id=eq.1' }, /^No subscription params provided\. Please provide at least a `schema` or `table` to subscribe to: /],
    ]) {
      const member = await t.join(t.user(), t.topic(), { changes: [entry] })
      const { system } = await member.system(message)
      assert.deepEqual([system.status, system.extension], ['error', 'postgres_changes'])
      await t.sql(t.broadcast('still here', member.topic, { isPrivate: false }))
      await member.hears('still here')
      assert.deepEqual(member.statuses, ['SUBSCRIBED'])
      assert.deepEqual(member.systems, [system.message])
    }
  },

  'one bad entry fails all of its channel, and no other': async (t) => {
    const table = await t.table('id int primary key')
    const client = t.client(t.user().token)
    const [bad, good] = await Promise.all([
      t.join(client, t.topic(), { changes: [any(table), any(table, { filter: 'nothing=eq.1' })] }), t.follow(client, [any(table)])])
    await bad.system(/invalid column for filter nothing$/)
    await t.sql(`insert into ${table} values (1); insert into ${table} values (2)`)
    await good.toldOf(2)
    assert.deepEqual([bad.ids(), good.ids()], [[], [1, 2]])
  },

  'rows that are there come first, and then what changes': async (t) => {
    const table = await t.table('id int primary key, n int', 'insert into TABLE select i, i from generate_series(1, 50) as i')
    const member = await t.follow(t.user(), [any(table, { snapshot: true, filter: 'n=gte.41' })])
    await member.system('Snapshot complete: 10 rows')
    await t.sql(`insert into ${table} values (51, 51); update ${table} set n = 100 where id = 41`)
    await member.toldOf(41, 'UPDATE')
    assert.deepEqual(member.changes().map(([type]) => type), [...Array(11).fill('INSERT'), 'UPDATE'])
    assert.deepEqual(member.ids().slice(0, 10).sort(), Array.from({ length: 10 }, (_, i) => i + 41))
    assert.deepEqual(member.ids().slice(10), [51, 41])
  },

  'a table that is altered is told as it is then': async (t) => {
    const table = await t.table('id int primary key, old text')
    const member = await t.follow(t.user(), [any(table)])
    await t.sql(`insert into ${table} values (1, 'a'); alter table ${table} rename column old to text; alter table ${table} add column n int default 7;
      insert into ${table} values (2, 'b', 8)`)
    await member.toldOf(2) // a column that is gone by then is not told
    await t.sql(`alter table ${table} drop column text; insert into ${table} values (3, 9)`)
    await member.toldOf(3)
    assert.deepEqual(member.changes().slice(1).map(([, row]) => row), [{ id: 2, text: 'b', n: 8 }, { id: 3, n: 9 }])
    assert.deepEqual(member.ids(), [1, 2, 3])
  },

  'TRUNCATE is told by a message': async (t) => {
    const table = await t.table('id int primary key', 'insert into TABLE values (1)')
    const member = await t.follow(t.user(), [any(table)])
    await t.sql(`truncate ${table}; insert into ${table} values (2)`)
    await member.toldOf(2)
    const { system } = await member.system(`TRUNCATE public.${table}`)
    assert.equal(system.extension, 'postgres_changes')
    assert.deepEqual(member.ids(), [2])
  },

  'a client whose connection was lost is subscribed again': async (t) => {
    const table = await t.table('id int primary key')
    const user = t.user()
    const client = t.client(user.token)
    const member = await t.follow(client, [any(table)])
    client.tape.cut()
    await member.subscribed(2)
    await t.sql(`insert into ${table} values (1)`)
    await member.toldOf(1)
    assert.deepEqual(member.ids(), [1])
  },

  'who has left is told of nothing any more': async (t) => {
    const table = await t.table('id int primary key')
    const client = t.client(t.user().token)
    const [leaves, stays] = [await t.follow(client, [any(table)]), await t.follow(client, [any(table)])]
    await client.removeChannel(leaves.channel)
    await t.sql(`insert into ${table} values (1)`)
    await stays.toldOf(1)
    const again = await t.join(client, leaves.topic, { changes: [any(table)] })
    await again.subscribed()
    await t.sql(`insert into ${table} values (2)`)
    await Promise.all([stays.toldOf(2), again.toldOf(2)])
    assert.deepEqual([leaves.ids(), stays.ids(), again.ids()], [[], [1, 2], [2]])
  },

  'broadcasts and presence go on beside changes': async (t) => {
    const table = await t.table('id int primary key')
    const member = await t.join(t.user(), t.topic(), { self: true, presence: { key: 'me' }, changes: [any(table)] })
    await member.subscribed()
    await member.send('hello')
    await unthrottled()
    await Promise.all([member.channel.track({ n: 1 }), t.sql(`insert into ${table} values (1)`)])
    await Promise.all([member.hears('hello'), member.knows({ me: [{ n: 1 }] }), member.toldOf(1)])
  },

  'names that need quotes': async (t) => {
    const name = `A "b" ${t.topic('').slice(1, 9)}`
    const quoted = `"${name.replaceAll('"', '""')}"`
    await t.sql(`create table ${quoted} ("the id" int primary key, "Naïve, ""x""" text); grant select on ${quoted} to authenticated; alter publication supabase_realtime add table ${quoted}`)
    const member = await t.follow(t.user(), [any(name, { filter: 'the id=eq.1' })])
    await t.sql(`insert into ${quoted} values (2, 'no'), (1, ${quote(`it's "ü"`)})`)
    const change = await member.told((c) => c.new['the id'] === 1)
    assert.deepEqual([change.table, change.new], [name, { 'the id': 1, 'Naïve, "x"': `it's "ü"` }])
    assert.equal(member.changes().length, 1)
  },
}
