// What else could have stood at a place of a text.

import { capsuleAt } from "../server/origins.js";
import { chosen, set, state } from "../store.js";
import { split } from "../text/symbols.js";
import { call } from "../server/wire.js";

const found = new WeakMap(); // by text: by place and model

const key = (place) => `${place} ${state.model}`;

/** Return all symbols of the model as they could stand at a place, the likeliest first, as
 * [{symbol, logProb}]; undefined while they are not known. */
export const alternativesAt = (reading, place) => found.get(reading)?.get(key(place));

/** Ask for the alternatives at a place. */
export async function ask(reading, place) {
  const name = key(place);
  const list = await distribution(reading, place, chosen());
  if (!found.has(reading)) found.set(reading, new Map());
  found.get(reading).set(name, list);
  set({});
}

async function distribution(reading, place, model) {
  const capsule = await capsuleAt(reading, place, model);
  const topLogProbs = split(model.vocabulary).length;
  const { next } = await call("Inspect", { model: model.name, text: "", capsule, topLogProbs });
  const { symbols, logProbs } = next;
  return split(symbols).map((symbol, at) => ({ symbol, logProb: Number(logProbs[at]) }));
}

/** Return each alternative's probability once temperature and filters have been at it. All of the
 * distribution must be given, the likeliest first. */
export function drawn(list, { temperature = 1, topK = 0, topP = 1, minP = 0 }) {
  if (temperature === 0) return list.map((_, at) => (at === 0 ? 1 : 0));
  const highest = list[0].logProb;
  const weights = list.map(({ logProb }) => Math.exp((logProb - highest) / temperature));
  const ofK = weights.map((weight, at) => (topK === 0 || at < topK ? weight : 0));
  const mass = topP * sum(ofK);
  let before = 0;
  const kept = ofK.map((weight, at) => {
    const isIn = at === 0 || ((topP === 1 || before < mass) && weight >= minP);
    before += weight;
    return isIn ? weight : 0;
  });
  const total = sum(kept);
  return kept.map((weight) => weight / total);
}

const sum = (numbers) => numbers.reduce((total, each) => total + each, 0);
