// Log-probabilities of text that no model wrote.

import { goOn } from "./origins.js";
import { call } from "./wire.js";

/** Call a method that reads symbols as if they stood at a place of a text. Returns its answer, and how
 * many symbols it read before them. */
export function readAt(method, reading, place, symbols, model, body = {}) {
  return goOn(reading, place, model, async ({ from, prompt, capsule }) => {
    const text = prompt + symbols.join("");
    const answer = await call(method, { ...body, model: model.name, text, capsule });
    return { answer, before: place - from };
  });
}

/** Return the log-probability of each of the symbols, if they stood at a place of a text. */
export async function scoreTyped(reading, place, symbols, model) {
  const { answer, before } = await readAt("Score", reading, place, symbols, model);
  return answer.logProbs.slice(before).map(Number);
}
