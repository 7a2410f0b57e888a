// A text as an address: what was typed and what a model wrote, with seeds and settings. Opening it
// writes the same text again.

import { chosen, remember, set, show, state, tell } from "../store.js";
import { ends } from "../text/tree.js";
import { Reading } from "../text/reading.js";
import { split } from "../text/symbols.js";
import { type, write } from "./writing.js";

const LONGEST = 8_000; // an address that is kept up to date

const BROKEN =
  "This link is broken: no text can be read from its address. Ask for it again, and copy all of it.";

const same = (first, second) => JSON.stringify(first) === JSON.stringify(second);

/** Describe how a text came about; null if there is none, or two models took part. */
export function recipe(reading) {
  const steps = [];
  let fingerprint = null;
  let model = "";
  for (const { node, from, to } of reading.path) {
    if (to === from) continue;
    fingerprint ??= node.fingerprint;
    if (node.fingerprint !== fingerprint) return null;
    model = node.model;
    add(steps, node, to - from);
  }
  return steps.length ? { v: 1, model, fingerprint, steps } : null;
}

function add(steps, node, count) {
  const last = steps.at(-1);
  if (!node.written) {
    const text = node.symbols.slice(0, count).join("");
    if (last?.text !== undefined) last.text += text;
    else steps.push({ text });
    return;
  }
  const { seed, sampling } = node.written;
  // One seed goes on as if it had not been interrupted.
  if (last?.write && last.seed === seed && same(last.sampling, sampling)) last.write += count;
  else steps.push({ write: count, seed, sampling });
}

const fragment = (told) => (told ? `#${encodeURIComponent(JSON.stringify(told))}` : "");

/** Return the address of the text that is shown; null if it has none. */
export function address() {
  const told = recipe(state.reading);
  return told && location.href.split("#")[0] + fragment(told);
}

/** Let the address bar follow the text. */
export function keepAddress() {
  if (state.writing || state.replaying) return;
  const now = fragment(recipe(state.reading));
  const isShort = now.length <= LONGEST;
  const bare = location.pathname + location.search;
  if (isShort && location.hash !== now) history.replaceState(null, "", bare + now);
}

const isStep = (step) =>
  typeof step?.text === "string" || (Number.isInteger(step?.write) && typeof step.seed === "string");

const isRecipe = ({ v, model, fingerprint, steps }) =>
  v === 1 &&
  typeof model === "string" &&
  typeof fingerprint === "string" &&
  Array.isArray(steps) &&
  steps.every(isStep);

function told() {
  if (location.hash.length < 2) return null;
  try {
    const read = JSON.parse(decodeURIComponent(location.hash.slice(1)));
    if (isRecipe(read)) return read;
  } catch {
    // It was cut or changed on its way.
  }
  tell(BROKEN);
  return null;
}

/** Open what the address tells of. */
export async function open() {
  const read = told();
  if (!read) return;
  const known = ends(state.nodes).find((node) =>
    same(recipe(new Reading(state.nodes, node.id)), read),
  );
  if (known) return show(known.id);
  const fitting = state.models.find((each) => each.fingerprint === read.fingerprint);
  if (fitting) {
    set({ model: fitting.name });
    return replay(read.steps);
  }
  const { name, fingerprint } = chosen();
  tell(
    `This link's text is by the model ${read.model}, ${read.fingerprint.slice(0, 12)}…, which this ` +
      `server does not have. Its ${name}, ${fingerprint.slice(0, 12)}…, would write another text.`,
    { label: `Write it with ${name}`, run: () => replay(read.steps) },
  );
}

async function replay(steps) {
  set({ replaying: true, notice: null });
  remember();
  show(null);
  for (const step of steps) {
    const before = state.reading.length;
    if (step.text !== undefined) await type(step.text);
    else await write({ length: step.write, seed: step.seed, sampling: step.sampling, stop: [], samples: 1 });
    const count = step.write ?? split(step.text).length;
    if (state.reading.length !== before + count) break; // stopped, or refused: it has been told
  }
  set({ replaying: false });
}
