// The tree outlives the page: in the browser's storage, and in files.

import { lasting } from "../storage.js";
import { set, show, state, subscribe, tell } from "../store.js";
import { split } from "../text/symbols.js";
import { ends, merged } from "../text/tree.js";

const KEY = "unroll.tree";
const SETTINGS = "unroll.settings";
const LATER_MS = 800;

let had; // the tree that need not be kept again
let isTold = false; // that nothing is kept
let base = new Set(); // ids of the nodes in the browser's storage, as this tab knows it

const packFloats = (numbers) => {
  const bytes = new Uint8Array(Float32Array.from(numbers).buffer);
  let text = "";
  for (const byte of bytes) text += String.fromCharCode(byte);
  return btoa(text);
};

const unpackFloats = (text) => {
  const bytes = Uint8Array.from(atob(text), (each) => each.charCodeAt(0));
  return Array.from(new Float32Array(bytes.buffer));
};

/** Write the tree as JSON; of each step's capsules the last is kept. */
export function pack({ nodes, leaf }) {
  const packed = [...nodes.values()].map(({ symbols, logProbs, marks, ...rest }) => ({
    ...rest,
    text: symbols.join(""),
    logProbs: packFloats(logProbs),
    marks: marks.slice(-1),
  }));
  return JSON.stringify({ version: 1, leaf, nodes: packed });
}

/** Read a tree; throws if it is none. */
export function unpack(text) {
  const { version, leaf, nodes } = JSON.parse(text);
  if (version !== 1) throw new Error(`This is no tree of texts of version 1, but of ${version}.`);
  const made = nodes.map(({ text: own, logProbs, ...rest }) => [
    rest.id,
    { ...rest, symbols: split(own), logProbs: unpackFloats(logProbs) },
  ]);
  const tree = new Map(made);
  for (const { parent, at } of tree.values()) {
    const isWhole = parent === null || at <= tree.get(parent)?.symbols.length;
    if (!isWhole) throw new Error("This tree lacks a part of a text.");
  }
  return { nodes: tree, leaf: tree.has(leaf) ? leaf : null };
}

/** Bring back what the browser has kept, and keep what changes from now on; take what other tabs add. */
export function keep() {
  set({ settings: { ...state.settings, ...JSON.parse(lasting.getItem(SETTINGS) ?? "{}") } });
  const kept = lasting.getItem(KEY);
  if (kept) {
    try {
      const { nodes, leaf } = unpack(kept);
      set({ nodes });
      show(leaf);
      base = new Set(nodes.keys());
    } catch (error) {
      tell(`What this browser had kept cannot be read: ${error.message}`);
    }
  }
  addEventListener("storage", ({ key, newValue }) => {
    if (key === KEY && newValue) take(unpack(newValue).nodes);
  });
  let timer;
  had = state.nodes;
  let hadSettings = state.settings;
  subscribe(({ nodes, settings, writing }) => {
    if (settings !== hadSettings) lasting.setItem(SETTINGS, JSON.stringify(settings));
    hadSettings = settings;
    if (writing) had = null;
    if (writing || nodes === had) return;
    had = nodes;
    clearTimeout(timer);
    timer = setTimeout(save, LATER_MS);
  });
  addEventListener("pagehide", save);
}

/** Tell that nothing is kept, where the browser forbids it. */
function tellOnce() {
  if (isTold || !state.nodes.size) return;
  isTold = true;
  tell("This browser lets the page keep nothing. Export the texts as a file before you close it.");
}

/** Take what another tab has kept. */
function take(theirs) {
  const nodes = merged(state.nodes, theirs, base);
  base = new Set(theirs.keys());
  if (nodes.size === theirs.size) had = nodes; // else the two tabs would tell each other for ever
  set({ nodes });
  if (!nodes.has(state.leaf)) show(ends(nodes).at(-1)?.id ?? null);
}

function save() {
  base = new Set(state.nodes.keys());
  if (!lasting.lasts) {
    tellOnce();
    return;
  }
  try {
    lasting.setItem(KEY, pack(state));
  } catch (error) {
    if (error.name !== "QuotaExceededError") throw error;
    tell("The texts no longer fit into this browser's storage. Export them as a file to keep them.");
  }
}

/** Offer the tree as a file. */
export function exportFile() {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([pack(state)], { type: "application/json" }));
  link.download = "texts.json";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

/** Add the texts of a file to the tree. */
export async function importFile(file) {
  try {
    const { nodes, leaf } = unpack(await file.text());
    set({ nodes: new Map([...state.nodes, ...nodes]) });
    show(leaf ?? state.leaf);
  } catch (error) {
    tell(`${file.name} cannot be read: ${error.message}`);
  }
}
