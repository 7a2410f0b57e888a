// What one does with whole texts: name, delete, compare, keep on the server.

import { capsuleAt } from "../server/origins.js";
import { Reading } from "../text/reading.js";
import { remember, set, show, state, tell, tellError } from "../store.js";
import { meanBits } from "../text/symbols.js";
import { commonLength, ends, without } from "../text/tree.js";
import { call } from "../server/wire.js";

function change(id, fields) {
  const nodes = new Map(state.nodes);
  nodes.set(id, Object.assign(nodes.get(id), fields));
  set({ nodes });
}

/** Name the text that ends with a node. */
export const rename = (id, name) => change(id, { name });

/** Delete the text that ends with a node; what it shares with others stays. */
export function remove(id) {
  remember();
  const nodes = without(state.nodes, id);
  set({ nodes, beside: [] });
  if (!nodes.has(state.leaf)) show(ends(nodes).at(-1)?.id ?? null);
}

/** Begin a text of its own. */
export function begin() {
  set({ beside: [] });
  show(null);
}

/** Compare two texts: where they part, what follows there, and how surprising that was. */
export function compare(nodes, first, second) {
  const readings = [first, second].map((id) => new Reading(nodes, id));
  const at = commonLength(...readings.map(({ symbols }) => symbols));
  const tails = readings.map((reading) => ({
    text: reading.text(at),
    bits: meanBits(reading.logProbs, at, reading.length),
  }));
  return { at, before: readings[0].text(Math.max(0, at - 60), at), tails };
}

/** Keep a text on the server, as a session. */
export async function keepSession(id) {
  const reading = new Reading(state.nodes, id);
  const node = state.nodes.get(id);
  const model = state.models.find((each) => each.fingerprint === node.fingerprint);
  if (!model) return tell(`This server does not have the model ${node.model} any more.`);
  try {
    const capsule = await capsuleAt(reading, reading.length, model);
    const { sampling, seed } = node.written ?? {};
    const { session } = await call("StartSession", { model: model.name, capsule, seed, sampling });
    change(id, { session: session.id });
  } catch (error) {
    tellError(error);
  }
}

/** End the session that keeps a text. */
export async function endSession(id) {
  try {
    await call("EndSession", { session: state.nodes.get(id).session });
  } catch (error) {
    tellError(error);
    if (error.code !== "not_found") return;
  }
  change(id, { session: "" });
}
