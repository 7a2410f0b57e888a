// Log-probabilities of text that no model wrote.

import { call } from "./wire.js";

/** Call a method that reads a text, from the nearest capsule; if the server no longer takes it, from
 * the start. Returns its answer and how many symbols it read before `place`. */
export async function readFrom(method, reading, place, symbols, model, body = {}) {
  const { from, prompt, capsule } = reading.origin(place, model.fingerprint);
  const after = symbols.join("");
  const whole = { ...body, model: model.name };
  try {
    const answer = await call(method, { ...whole, text: prompt + after, capsule });
    return { answer, before: place - from };
  } catch (error) {
    if (!capsule || !error.reason?.startsWith("CAPSULE_")) throw error;
    const answer = await call(method, { ...whole, text: reading.text(0, place) + after });
    return { answer, before: place };
  }
}

/** Return the log-probability of each of the symbols, if they stood at a place of a text. */
export async function scoreTyped(reading, place, symbols, model) {
  const { answer, before } = await readFrom("Score", reading, place, symbols, model);
  return answer.logProbs.slice(before).map(Number);
}
