// Where a request goes on from: the nearest capsule, and the symbols that are read from there.

import { call } from "./wire.js";

const MOST = 32_768; // symbols that one request reads: half of what servers take

/** Run a request that stands at a place of a text. `run` gets {from, prompt, capsule}: the prompt has
 * the symbols from `from` to the place. If the server does not take the capsule, as after a restart
 * with another key, all is read again: the text is the same. */
export async function goOn(reading, place, model, run) {
  try {
    return await run(await nearest(reading, place, model));
  } catch (error) {
    if (!error.reason?.startsWith("CAPSULE_")) throw error;
    reading.forget();
    return run(await nearest(reading, place, model));
  }
}

async function nearest(reading, place, model) {
  for (;;) {
    const origin = reading.origin(place, model.fingerprint);
    if (place - origin.from <= MOST) return origin;
    const on = origin.from + MOST;
    await read(reading, on, model, { ...origin, prompt: reading.text(origin.from, on) });
  }
}

async function read(reading, place, model, { prompt, capsule }) {
  const body = { model: model.name, prompt, capsule, maxNewSymbols: 0 };
  const { completion } = await call("Generate", body);
  reading.mark(place, completion.capsule, model.fingerprint);
  return completion.capsule;
}

/** Return a capsule of a place; undefined at the start of a text. */
export const capsuleAt = (reading, place, model) =>
  goOn(reading, place, model, (origin) =>
    origin.prompt ? read(reading, place, model, origin) : origin.capsule,
  );
