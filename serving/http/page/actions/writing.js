// How a text goes on: it is typed, or a model writes it.

import { LABELS } from "../server/labels.js";
import { goOn } from "../server/origins.js";
import { chosen, add, forget, grow, remember, set, show, state, tell, tellError } from "../store.js";
import { scoreTyped } from "../server/scoring.js";
import { split, tidy } from "../text/symbols.js";
import { makeNode } from "../text/tree.js";
import { stream } from "../server/wire.js";

const SILENT_MS = 5_000; // until one is told that nothing comes
const APART = 128; // symbols between the capsules that are kept

const WHOLE = { length: "max_new_symbols", topK: "sampling.top_k", seed: "seed", samples: "sample_count" };

const given = (text) => (text.trim() === "" ? undefined : Number(text));

/** Return the sampling parameters in the fields. */
export function sampling({ temperature, topP, topK, minP } = state.settings) {
  const all = {
    temperature: given(temperature),
    topP: given(topP),
    topK: given(topK),
    minP: given(minP),
  };
  return Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined));
}

const stops = (text) => text.split("\n").filter(Boolean).map((line) => line.replaceAll("\\n", "\n"));
const plus = (seed, index) => (/^\d+$/.test(seed) ? String(BigInt(seed) + BigInt(index)) : seed);
const newSeed = () => String(crypto.getRandomValues(new Uint32Array(1))[0]);

/** Return the seed for what comes at a place: the field's; else that of the text which goes on
 * there; else a new one. */
function seedAt(place) {
  if (state.settings.seed.trim()) return state.settings.seed.trim();
  const { reading } = state;
  const before = place === reading.length ? reading.stepAt(place)?.node.written : null;
  return before?.seed ?? newSeed();
}

/** Put a typed text at the cursor; what follows there stays in a text of its own. Returns whether the
 * model can read it. */
export async function type(text) {
  const symbols = split(tidy(text));
  if (!symbols.length) return true;
  const { reading, cursor } = state;
  const model = chosen();
  set({ notice: null });
  try {
    const logProbs = await scoreTyped(reading, cursor, symbols, model);
    const { name, fingerprint } = model;
    const node = makeNode({ ...reading.place(cursor), symbols, logProbs, model: name, fingerprint });
    remember();
    add(node);
    show(node.id);
    return true;
  } catch (error) {
    tellError(error);
    return false;
  }
}

/** Say which setting is no whole number and should be one; nothing if each is. */
function notWhole() {
  const key = Object.keys(WHOLE).find((each) => !Number.isInteger(Number(state.settings[each])));
  return key && `${LABELS[WHOLE[key]]}: must be a whole number, got ${state.settings[key]}`;
}

/** Let the model write on from the cursor; returns when it has ended. */
export async function write(asked = {}) {
  if (state.writing) return;
  const problem = notWhole();
  if (problem) {
    tell(problem);
    return;
  }
  const { reading, cursor: place } = state;
  const model = chosen();
  const written = {
    sampling: asked.sampling ?? sampling(),
    seed: asked.seed ?? seedAt(place),
    stop: asked.stop ?? stops(state.settings.stop),
  };
  const count = asked.samples ?? Number(state.settings.samples);
  const { name, fingerprint } = model;
  const nodes = Array.from({ length: count }, (_, index) =>
    makeNode({
      ...reading.place(place),
      written: { ...written, seed: plus(written.seed, index) },
      model: name,
      fingerprint,
    }),
  );
  remember();
  nodes.forEach(add);
  show(nodes[0].id);
  set({ beside: count > 1 ? nodes.map(({ id }) => id) : [], notice: null });
  const body = {
    model: name,
    maxNewSymbols: asked.length ?? Number(state.settings.length),
    ...written,
    sampleCount: count,
    logProbs: true,
    // With a stop string, a capsule may hold symbols that have not been sent.
    capsules: written.stop.length ? "CAPSULE_DELIVERY_NEVER" : "CAPSULE_DELIVERY_EVERY_CHUNK",
  };
  await follow(nodes, reading, place, body);
}

async function follow(nodes, reading, place, body) {
  const ending = new AbortController();
  const began = performance.now();
  const pace = { symbols: 0, first: 0, seconds: 0 };
  set({ pace, writing: { nodes, stop: () => ending.abort(), isSilent: false } });
  let watch;
  const hear = (isSilent) => {
    clearTimeout(watch);
    watch = isSilent ? undefined : setTimeout(hear, SILENT_MS, true);
    if (state.writing.isSilent !== isSilent) set({ writing: { ...state.writing, isSilent } });
  };
  hear(false);
  const take = (message) => {
    hear(false);
    const node = nodes[message.sampleIndex ?? 0];
    extend(node, message);
    pace.symbols = nodes.reduce((sum, { symbols }) => sum + symbols.length, 0);
    pace.seconds = (performance.now() - began) / 1000;
    pace.first ||= pace.seconds;
    if (node.id === state.leaf) grow();
    else set({});
  };
  try {
    await goOn(reading, place, chosen(), ({ prompt, capsule }) =>
      stream("StreamGenerate", { ...body, prompt, capsule }, take, ending.signal),
    );
  } catch (error) {
    tellError(error);
    if (error.name !== "AbortError" && nodes.some((node) => node.symbols.length)) {
      tell(`${error.message} What was written stays, and can go on.`);
    }
  }
  clearTimeout(watch);
  end(nodes, reading, place);
}

/** Let a node take a message of a stream. */
function extend(node, { text = "", logProbs = [], capsule, completion }) {
  for (const symbol of split(text)) node.symbols.push(symbol);
  for (const each of logProbs) node.logProbs.push(Number(each));
  if (capsule) keep(node, capsule);
  if (completion) node.finish = completion.finishReason;
}

function keep(node, capsule) {
  const { marks } = node;
  if (marks.length > 1 && marks.at(-1).at - marks.at(-2).at < APART) marks.pop();
  marks.push({ at: node.symbols.length, capsule });
}

function end(nodes, reading, place) {
  set({ writing: null });
  const empty = nodes.filter((node) => !node.symbols.length);
  if (!empty.length) return;
  const kept = new Map(state.nodes);
  empty.forEach((node) => kept.delete(node.id));
  const beside = state.beside.filter((id) => kept.has(id));
  set({ nodes: kept, beside: beside.length > 1 ? beside : [] });
  if (empty.length === nodes.length) forget();
  if (!kept.has(state.leaf)) show(beside[0] ?? reading.leaf, beside.length ? undefined : place);
  if (nodes[0].finish === "FINISH_REASON_STOP") tell("The next symbols are a stop string.");
}

/** Put another symbol at a place and write on after it. */
export async function choose(place, symbol) {
  if (state.writing) return;
  const seed = state.reading.stepAt(place)?.node.written?.seed ?? newSeed();
  set({ cursor: place, anchor: null });
  if (await type(symbol)) await write({ seed, samples: 1 });
}

/** Stop what is being written. */
export const stop = () => state.writing?.stop();
