import WebSocket from 'ws'
import { Seen } from './seen.mjs'

// Tape records what passes over one client's sockets, whatever the client makes of it.
export class Tape {
  seen = new Seen('the socket')
  #sockets = new Set()

  // transport is the WebSocket class for a client.
  get transport() {
    const { seen } = this
    const sockets = this.#sockets
    return class extends WebSocket {
      constructor(address, protocols) {
        super(address, protocols)
        sockets.add(this)
        this.on('close', () => sockets.delete(this))
        this.on('message', (data, binary) => seen.add({ way: 'in', binary, text: Buffer.from(data).toString('latin1') }))
        this.on('close', (code, reason) => seen.add({ way: 'closed', code, text: String(reason) }))
        this.on('error', (err) => seen.add({ way: 'failed', text: err.message }))
      }

      send(data, ...rest) {
        seen.add({ way: 'out', binary: typeof data !== 'string', text: Buffer.from(data).toString('latin1') })
        super.send(data, ...rest)
      }
    }
  }

  // cut ends the connections as a network does that fails.
  cut() {
    for (const socket of this.#sockets) socket.terminate()
  }

  // received tells whether some text reached this machine at all, in a frame of any kind.
  received(text) {
    return this.seen.all.some((frame) => frame.way === 'in' && frame.text.includes(text))
  }

  // tail is the last frames, for a failure's message.
  tail(count = 12) {
    return this.seen.all.slice(-count).map((frame) => `    ${frame.way} ${frame.code ?? ''}${frame.binary ? '(binary) ' : ''}${JSON.stringify(frame.text.slice(0, 300))}`)
  }
}
