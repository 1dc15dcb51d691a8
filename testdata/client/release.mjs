// The release of supabase-js that RELEASE names: one in the directory releases, or the current one where it is empty.
import { createRequire } from 'node:module'
import { createClient as createCurrent } from '@supabase/supabase-js'

export const release = process.env.RELEASE ?? ''

// The first release that knows private channels never opens a socket of the class that it is given. It takes the global
// one, which finds the class by a parameter of the address that the server does not know.
const ignoresTransport = release === '2.44.0'
const classes = new Map()
if (ignoresTransport) {
  globalThis.WebSocket = function (address) {
    return new (classes.get(new URL(address).searchParams.get('socket')))(address)
  }
}

const createReleased = release
  ? createRequire(new URL(`./releases/${release}/`, import.meta.url))('@supabase/supabase-js').createClient
  : createCurrent

// old tells whether this release speaks wire version 1.0.0 alone, and has no option accessToken.
export const old = release !== ''

// createClient makes a client that speaks vsn through sockets of a class. An old release knows one version only: whoever
// speaks the other has the current release.
export function createClient(url, key, vsn, transport, { realtime, ...options } = {}) {
  if (!old || vsn !== '1.0.0') return createCurrent(url, key, { ...options, realtime: { vsn, transport, ...realtime } })
  // Old releases hold back what is sent within a tenth of a second of the last, unless they are told otherwise; and the first
  // what is sent before a timer of no time at all has run, see unthrottled.
  const params = { eventsPerSecond: 10_000 }
  if (ignoresTransport) {
    params.socket = String(classes.size)
    classes.set(params.socket, transport)
    transport = undefined
  }
  return createReleased(url, key, { ...options, realtime: { transport, params, ...realtime } })
}

// unthrottled waits until the first release lets something be sent again. There is nothing that tells.
export const unthrottled = () => new Promise((done) => setTimeout(done, release === '2.0.0' ? 5 : 0))

const neverWaits = { 'joins that wait for changes': 'it has no option postgres_changes_options' }

// What a release cannot do; whatever needs it is not played with it.
const lacks = {
  '2.44.0': { ...neverWaits, accessToken: 'it has no option accessToken', 'private sending over REST': 'it sends to public channels only', httpSend: 'it has no httpSend()' },
  '2.0.0': {
    ...neverWaits,
    accessToken: 'it has no option accessToken',
    'private channels': 'it knows no private channels', 'sending over REST': 'it sends over sockets only',
    'private sending over REST': 'it sends over sockets only', httpSend: 'it has no httpSend()',
  },
}[release] ?? {}

// Skipped ends a scenario that a release cannot play.
export class Skipped extends Error {}

// needs ends the scenario unless the release can do something.
export function needs(feature) {
  if (lacks[feature]) throw new Skipped(`supabase-js ${release}: ${lacks[feature]}`)
}

// reason is the text of an error; the first release puts it in quotes.
export const reason = (err) => err?.message?.replace(/^"(.*)"$/s, '$1')
