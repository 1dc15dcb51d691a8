import assert from 'node:assert/strict'
import { isDeepStrictEqual } from 'node:util'
import { reason } from './release.mjs'
import { Seen } from './seen.mjs'

// Member is one channel of one client. Its log holds what the client's application sees, in order: {status, error},
// {system} and {event, payload, meta}; of presence, if the config asks for it, {synced}, {came} and {went}; and {change, entry}, where
// entry is the place of what was asked for in config.changes.
export class Member {
  constructor(client, topic, { changes = [], ...config }) {
    this.client = client
    this.topic = topic
    this.log = new Seen(`a member of ${topic}`)
    this.channel = client.channel(topic, { config })
      .on('broadcast', { event: '*' }, ({ event, payload, meta }) => this.log.add({ event, payload, meta }))
      .on('system', {}, (system) => this.log.add({ system }))
    if (config.presence) {
      this.channel
        .on('presence', { event: 'join' }, ({ key }) => this.log.add({ came: key }))
        .on('presence', { event: 'leave' }, ({ key }) => this.log.add({ went: key }))
        .on('presence', { event: 'sync' }, () => this.log.add({ synced: true }))
    }
    changes.forEach((asked, entry) => this.channel.on('postgres_changes', asked, (change) => this.log.add({ change, entry })))
    this.channel.subscribe((status, err) => this.log.add({ status, error: reason(err), cause: err?.cause }))
  }

  status(status) {
    return this.log.until((e) => e.status === status, `status ${status}`)
  }

  // system waits for a system message that says this.
  system(text) {
    return this.log.until((e) => e.system && (text instanceof RegExp ? text.test(e.system.message) : e.system.message === text), `the system message ${text}`)
  }

  hears(event) {
    return this.log.until((e) => e.event === event, `broadcast ${event}`)
  }

  // subscribed waits until the database's changes are said to be subscribed to, for the count-th time.
  subscribed(count = 1) {
    const said = () => this.systems.filter((message) => message === 'Subscribed to PostgreSQL').length
    return this.log.until((e) => e.system?.message === 'Subscribed to PostgreSQL' && said() >= count, `to be subscribed ${count} times`)
  }

  // told waits for a change.
  async told(matches, what = matches) {
    return (await this.log.until((e) => e.change && matches(e.change), `the change ${what}`)).change
  }

  // toldOf waits for a change of the row with an id.
  toldOf(id, type = 'INSERT') {
    return this.told((c) => c.eventType === type && (c.new.id ?? c.old.id) === id, `${type} of ${id}`)
  }

  // changes are those that the entry was told, all or those of one entry of the config, as [type, new, old].
  changes(entry) {
    return this.log.all.filter((e) => e.change && (entry === undefined || e.entry === entry)).map(({ change }) => [change.eventType, change.new, change.old])
  }

  // ids are those of the rows of these changes.
  ids(entry) {
    return this.changes(entry).map(([, row, old]) => row.id ?? old.id)
  }

  // present is who the client says is present: what each tracked, by key, in the order of n.
  get present() {
    const plain = ({ presence_ref, ...tracked }) => tracked
    return Object.fromEntries(Object.entries(this.channel.presenceState()).map(([key, tracked]) => [key, tracked.map(plain).sort((a, b) => a.n - b.n)]))
  }

  knows(present) {
    return this.log.until((e) => e.synced && isDeepStrictEqual(this.present, present), `${JSON.stringify(present)} to be present`)
  }

  get heard() {
    return this.log.all.filter((e) => e.event !== undefined).map((e) => e.event)
  }

  get statuses() {
    return this.log.all.filter((e) => e.status).map((e) => e.status)
  }

  get systems() {
    return this.log.all.filter((e) => e.system).map((e) => e.system.message)
  }

  send(event, payload = {}) {
    return this.channel.send({ type: 'broadcast', event, payload })
  }

  // isCut checks that the server closed this channel for good, and said why before it did.
  async isCut(text) {
    const { system } = await this.system(text)
    await this.status('CLOSED')
    assert.equal(system.status, 'error')
    assert.equal(system.channel, this.topic)
    const log = this.log.all
    assert.ok(log.findIndex((e) => e.system === system) < log.findIndex((e) => e.status === 'CLOSED'), 'the reason comes before the end')
  }

  // isUndisturbed checks that nothing was said to this member but that it is on the channel.
  isUndisturbed() {
    assert.deepEqual(this.statuses, ['SUBSCRIBED'])
    assert.deepEqual(this.systems, [])
  }
}
