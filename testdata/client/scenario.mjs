import assert from 'node:assert/strict'
import { createHmac, randomUUID } from 'node:crypto'
import { Member } from './member.mjs'
import { createClient, needs } from './release.mjs'
import { within } from './seen.mjs'
import { Tape } from './tape.mjs'

export const quote = (text) => `'${String(text).replaceAll("'", "''")}'`

// Scenario is what a scenario has: a server, people, clients, and SQL as a superuser.
export class Scenario {
  #clients = []

  // ask(what, with) has the starting process do what only it can do.
  constructor({ vsn, url, secret, ask }) {
    Object.assign(this, { vsn, url, secret, ask })
    this.otherVsn = vsn === '1.0.0' ? '2.0.0' : '1.0.0'
  }

  // sql runs statements and gives the rows of the last, as text.
  sql(statements) {
    return this.ask('sql', { sql: statements })
  }

  topic(kind = 'room') {
    return `${kind}:${randomUUID()}`
  }

  // user makes somebody with a token of their own.
  user({ id = randomUUID(), role = 'authenticated', seconds = 3600, ...more } = {}) {
    const claims = { sub: id, role, exp: Math.floor(Date.now() / 1000) + seconds, ...more }
    const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url')
    const signed = `${part({ alg: 'HS256', typ: 'JWT' })}.${part(claims)}`
    const signature = createHmac('sha256', this.secret).update(signed).digest('base64url')
    return { id, claims, token: `${signed}.${signature}` }
  }

  // client is supabase-js as an application makes it; its tape is in client.tape.
  client(key, { realtime, ...options } = {}) {
    const tape = new Tape()
    const { url, vsn, ...more } = realtime ?? {}
    const client = createClient(url ?? this.url, key, vsn ?? this.vsn, tape.transport, {
      auth: { persistSession: false, autoRefreshToken: false, detectSessionInUrl: false },
      realtime: more,
      ...options,
    })
    client.tape = tape
    this.#clients.push(client)
    return client
  }

  // knock subscribes and leaves the outcome to the caller. who is a user, who gets a client, or a client.
  knock(who, topic, { self, ack, replication_ready, ...config } = {}) {
    if (config.private) needs('private channels')
    const client = who.token ? this.client(who.token) : who
    return new Member(client, topic, { broadcast: { self, ack, replication_ready }, ...config })
  }

  // join is knock where the answer has to be yes.
  async join(who, topic, config) {
    const member = this.knock(who, topic, config)
    const answer = await member.log.until((e) => e.status, 'an answer to the join')
    assert.equal(answer.status, 'SUBSCRIBED', answer.error)
    return member
  }

  // follow joins and waits until the changes of entries are subscribed to.
  async follow(who, entries, config = {}) {
    const member = await this.join(who, this.topic(), { ...config, changes: entries })
    await member.subscribed()
    return member
  }

  // table makes one that the roles of users may read and whose changes are published, and gives its name. then may hold more
  // statements about it, which call it TABLE.
  async table(columns, then = '', { schema = 'public', prefix = 't' } = {}) {
    const name = `${prefix}_${randomUUID().slice(0, 8)}`
    const full = `${schema}.${name}`
    await this.sql(`create table ${full} (${columns}); grant select on ${full} to anon, authenticated, service_role; ${then.replaceAll('TABLE', full)};
      alter publication supabase_realtime add table ${full};`)
    return name
  }

  // refused is knock where the answer has to be no; it gives the reason.
  async refused(who, topic, config) {
    const member = this.knock(who, topic, config)
    const answer = await member.log.until((e) => e.status, 'an answer to the join')
    assert.equal(answer.status, 'CHANNEL_ERROR')
    return answer.error
  }

  // admit makes somebody a member of a room, so that the policies of setup.sql let them receive, and send if may_send.
  admit(room, user, maySend = true) {
    return this.sql(`insert into members values (${quote(user.id)}, ${quote(room.slice('room:'.length))}, ${maySend})
      on conflict (user_id, room_id) do update set may_send = excluded.may_send`)
  }

  // expel is the statement that takes a membership away.
  expel(room, user) {
    return `delete from members where user_id = ${quote(user.id)} and room_id = ${quote(room.slice('room:'.length))};`
  }

  // allow makes a policy: what is select (receive) or insert (send).
  allow(what, condition, role = 'authenticated') {
    const clause = what === 'insert' ? 'with check' : 'using'
    return this.sql(`create policy ${quote(randomUUID()).replaceAll("'", '"')} on realtime.messages for ${what} to ${role} ${clause} (${condition})`)
  }

  // broadcast is the statement that sends from the database.
  broadcast(event, topic, { payload = {}, isPrivate = true } = {}) {
    return `select realtime.send(${quote(JSON.stringify(payload))}, ${quote(event)}, ${quote(topic)}, ${isPrivate});`
  }

  // can asks the server's own decision of this moment.
  async can(action, topic, extension, user) {
    const rows = await this.sql(`select realtime.can(${[action, topic, extension, JSON.stringify(user.claims)].map(quote).join(', ')})`)
    return rows[0][0] === 't'
  }

  tapes() {
    return this.#clients.flatMap((client, i) => [`  client ${i + 1}:`, ...client.tape.tail()]).join('\n')
  }

  async end() {
    await Promise.all(this.#clients.map((client) => within(client.realtime.disconnect(), 'a client to disconnect')))
  }
}
