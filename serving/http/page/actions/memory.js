// How long a symbol is remembered: two readings of a text that differ in one symbol.

import { chosen } from "../store.js";
import { split } from "../text/symbols.js";
import { inspect, KINDS } from "./units.js";

const READ = 300; // symbols after the changed one
const UNITS = 64; // whose distance is taken

/** Read a text twice, once with another symbol at a place. Returns lists by symbols since the change:
 * distance of the states, as a share of their size, and bits of KL divergence of the predictions. */
export async function forget(reading, place, symbol) {
  const model = chosen();
  const original = reading.symbols.slice(place, place + 1 + READ);
  const changed = [symbol, ...original.slice(1)];
  const size = split(model.vocabulary).length;
  const body = { topLogProbs: size, units: sample(model) };
  const first = await inspect(reading, place, original, body);
  const second = await inspect(reading, place, changed, body);
  const distance = original.map((_, at) => distanceAt(first.units, second.units, at));
  // What is predicted after a symbol stands at the next one.
  const after = (answer) => [...answer.alternatives.slice(1), answer.next].map(byName);
  const [one, other] = [after(first), after(second)];
  const divergence = one.map((each, at) => divergenceOf(each, other[at]));
  return { distance, divergence, units: body.units.length };
}

/** Choose units evenly from a model: of an LSTM's cells, of other networks' outputs. */
function sample({ cell, layerCount, hiddenSize, memberCount = 1 }) {
  const kind = cell === "lstm" ? KINDS.c : KINDS.h;
  const all = layerCount * hiddenSize * memberCount;
  const count = Math.min(UNITS, all);
  return Array.from({ length: count }, (_, each) => {
    const place = Math.floor((each * all) / count);
    const layer = Math.floor(place / hiddenSize) % layerCount;
    return { kind, layer, index: place % hiddenSize, member: Math.floor(place / hiddenSize / layerCount) };
  });
}

function distanceAt(first, second, at) {
  let apart = 0;
  let size = 0;
  first.forEach(({ values }, unit) => {
    const [one, other] = [Number(values[at]), Number(second[unit].values[at])];
    apart += (one - other) ** 2;
    size += (one ** 2 + other ** 2) / 2;
  });
  return size ? Math.sqrt(apart / size) : 0;
}

function byName({ symbols, logProbs }) {
  return new Map(split(symbols).map((symbol, at) => [symbol, Number(logProbs[at])]));
}

/** Return the KL divergence of the second distribution from the first, in bits. */
export function divergenceOf(first, second) {
  let sum = 0;
  for (const [symbol, logProb] of first) {
    if (logProb > -Infinity) sum += Math.exp(logProb) * (logProb - second.get(symbol));
  }
  return Math.max(0, sum / Math.LN2);
}

/** Return after how many symbols a list stays below a bound; its length if it never does. */
export function lastAbove(list, bound) {
  for (let at = list.length - 1; at >= 0; at--) if (list[at] >= bound) return at + 1;
  return 0;
}
