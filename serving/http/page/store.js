// What the page knows. One state; views are functions of it, and actions change it through `set`.

import { Reading } from "./text/reading.js";

export const DEFAULTS = {
  length: "300",
  temperature: "0.7",
  topP: "",
  topK: "",
  minP: "",
  seed: "",
  stop: "",
  samples: "1",
};

const MOST_REMEMBERED = 100;

export const state = {
  models: [], // as ListModels tells them
  model: "", // the chosen one's name
  settings: { ...DEFAULTS }, // as they stand in the fields
  nodes: new Map(), // the tree
  leaf: null, // with which the text ends that is shown
  reading: new Reading(new Map(), null), // that text
  cursor: 0, // before which symbol it stands
  anchor: null, // the other end of the selection
  writing: null, // {nodes, stop, isSilent} while a model writes
  pace: null, // {symbols, first, seconds}: of what is being written, or was last
  beside: [], // ids of samples that are shown side by side
  notice: null, // {text, error, action}
  needsToken: false,
  shade: "surprise", // or "unit" or "none"
  units: [], // that have strips: {unit, key}
  colouring: null, // {unit, key} of the one that colours the text
  problem: null, // why units cannot be read
  tab: matchMedia("(min-width: 821px)").matches ? "settings" : null, // the panel that is open
};

const undone = { past: [], future: [] };
const listeners = new Set();

/** Call a function after each change, once a frame at most. */
export const subscribe = (listener) => listeners.add(listener);

let isPlanned = false;

/** Change the state. */
export function set(changes) {
  Object.assign(state, changes);
  plan();
}

function plan() {
  if (isPlanned) return;
  isPlanned = true;
  // A hidden page has no frames.
  const later = document.hidden ? (draw) => setTimeout(draw, 250) : requestAnimationFrame;
  later(() => {
    isPlanned = false;
    for (const listener of listeners) listener(state);
  });
}

const seen = () => ({ nodes: new Map(state.nodes), leaf: state.leaf, cursor: state.cursor });

/** Remember the tree as it is, so that `undo` comes back to it. */
export function remember() {
  undone.past.push(seen());
  undone.future = [];
  if (undone.past.length > MOST_REMEMBERED) undone.past.shift();
}

/** Forget what was remembered last: it has come to nothing. */
export function forget() {
  undone.past.pop();
}

function step(from, to) {
  if (state.writing || !from.length) return;
  to.push(seen());
  const { nodes, leaf, cursor } = from.pop();
  set({ nodes, beside: [] });
  show(leaf, cursor);
}

export const undo = () => step(undone.past, undone.future);
export const redo = () => step(undone.future, undone.past);
export const canUndo = () => undone.past.length > 0 && !state.writing;

/** Show the text that ends with a node; the cursor is at its end unless told otherwise. */
export function show(leaf, cursor) {
  const reading = new Reading(state.nodes, leaf);
  set({ leaf, reading, cursor: Math.min(cursor ?? reading.length, reading.length), anchor: null });
}

/** Put a node into the tree. */
export function add(node) {
  const nodes = new Map(state.nodes);
  nodes.set(node.id, node);
  set({ nodes });
}

/** Let the shown text take what its last node has gained; a cursor at the end stays there. */
export function grow() {
  const { reading, cursor } = state;
  const follows = cursor === reading.length;
  reading.grow();
  set(follows ? { cursor: reading.length } : {});
}

/** Move the cursor; with `selects`, what lies between is selected. */
export function move(to, selects = false) {
  const cursor = Math.max(0, Math.min(to, state.reading.length));
  const anchor = selects ? (state.anchor ?? state.cursor) : null;
  set({ cursor, anchor: anchor === cursor ? null : anchor });
}

/** Return what is selected, [from, to]; the whole text if nothing is. */
export function selection() {
  const { anchor, cursor, reading } = state;
  if (anchor === null) return [0, reading.length];
  return [Math.min(anchor, cursor), Math.max(anchor, cursor)];
}

/** Return the chosen model's description. */
export const chosen = () => state.models.find((each) => each.name === state.model);

/** Tell something in the notice line. */
export const tell = (text, action = null) => set({ notice: { text, action, error: null } });

/** Tell an error; without a token, ask for one. */
export function tellError(error) {
  if (error.name === "AbortError") return;
  if (error.code === "unauthenticated") set({ needsToken: true });
  const isOurs = error.code === undefined;
  if (isOurs) console.error(error);
  set({ notice: { text: error.message, error, action: null } });
}
