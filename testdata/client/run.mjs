// Runs scenarios on request. The starting process writes lines of JSON to standard input, {"run": name} and
// {"id", "answer" or "error"}, and reads such lines from standard output: {"scenarios": [...], "policies": [...]} first, of which the latter make
// policies, then for each
// scenario any number of {"scenario", "id", "ask", ...}, and at last {"scenario", "done": true} with "why" if it failed, or "skipped" if this
// release of the client cannot play it.
import { createInterface } from 'node:readline'
import changes from './scenarios/changes.mjs'
import changesRights from './scenarios/changes_rights.mjs'
import changesValues from './scenarios/changes_values.mjs'
import changesWait from './scenarios/changes_wait.mjs'
import database from './scenarios/database.mjs'
import join from './scenarios/join.mjs'
import presence from './scenarios/presence.mjs'
import publicly from './scenarios/public.mjs'
import replay from './scenarios/replay.mjs'
import rest from './scenarios/rest.mjs'
import rights from './scenarios/rights.mjs'
import server from './scenarios/server.mjs'
import tokens from './scenarios/tokens.mjs'
import { Skipped } from './release.mjs'
import { Scenario } from './scenario.mjs'

const { VSN: vsn, SERVER_URL: url, JWT_SECRET: secret } = process.env
const scenarios = { ...publicly, ...presence, ...join, ...database, ...rights, ...replay, ...changes, ...changesRights, ...changesValues, ...changesWait, ...rest, ...tokens, ...server }

console.log = console.error // standard output is for the protocol
const say = (line) => process.stdout.write(JSON.stringify(line) + '\n')

const asked = new Map() // id → {resolve, reject}
let lastId = 0

function asker(scenario) {
  return (ask, more) => new Promise((resolve, reject) => {
    const id = ++lastId
    asked.set(id, { resolve, reject })
    say({ scenario, id, ask, ...more })
  })
}

async function run(name) {
  const t = new Scenario({ vsn, url, secret, ask: asker(name) })
  let why, skipped
  try {
    await scenarios[name](t)
  } catch (err) {
    if (err instanceof Skipped) skipped = err.message
    else why = `${err.stack}\n${t.tapes()}`
  }
  say({ scenario: name, done: true, why, skipped })
  await t.end() // takes the client a moment, for which nobody needs to wait
}

createInterface({ input: process.stdin })
  .on('line', (line) => {
    const { run: name, id, answer, error } = JSON.parse(line)
    if (name) return run(name)
    const { resolve, reject } = asked.get(id)
    asked.delete(id)
    error ? reject(new Error(error)) : resolve(answer)
  })
  .on('close', () => process.exit()) // nobody is left to run for

const names = Object.keys(scenarios)
const makesPolicies = (name) => /\bt\.allow\(/.test(scenarios[name])
say({ scenarios: names.filter((name) => !makesPolicies(name)), policies: names.filter(makesPolicies) })
