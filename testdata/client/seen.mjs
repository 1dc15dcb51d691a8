// How long anything that must happen may take. A bound, not a measure.
const PATIENCE = 60_000

// Seen is an ordered record of what happened, which can be waited on.
export class Seen {
  #items = []
  #waiting = new Set()

  constructor(whose) {
    this.whose = whose
  }

  add(item) {
    this.#items.push(item)
    for (const look of [...this.#waiting]) look(item)
  }

  get all() {
    return [...this.#items]
  }

  // until gives the first item that matches, of those that were there before as well.
  until(match, what) {
    const found = this.#items.find(match)
    if (found !== undefined) return Promise.resolve(found)
    return new Promise((resolve, reject) => {
      const look = (item) => {
        if (!match(item)) return
        clearTimeout(timer)
        this.#waiting.delete(look)
        resolve(item)
      }
      const timer = setTimeout(() => {
        this.#waiting.delete(look)
        reject(new Error(`${this.whose} waited ${PATIENCE} ms for ${what}; it saw ${JSON.stringify(this.#items)}`))
      }, PATIENCE)
      this.#waiting.add(look)
    })
  }
}

// within bounds a wait that has no bound of its own.
export async function within(promise, what) {
  let timer
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`waited ${PATIENCE} ms for ${what}`)), PATIENCE)
  })
  try {
    return await Promise.race([promise, late])
  } finally {
    clearTimeout(timer)
  }
}
