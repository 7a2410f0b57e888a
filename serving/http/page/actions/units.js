// Values of hidden units along a text, of the pieces that are seen; and which units follow something.

import { capsuleAt } from "../server/origins.js";
import { readAt } from "../server/scoring.js";
import { chosen, selection, set, state } from "../store.js";
import { call } from "../server/wire.js";

const PIECE = 512; // symbols that are read at once
const LONGEST = 10_000; // symbols in which units are searched

const known = new WeakMap(); // by text: by model: pieces {count, values: Map(key, [value]), most: Map(key, value)}
let isBusy = false;

export const KINDS = { h: "UNIT_KIND_H", c: "UNIT_KIND_C" };

/** Name a unit; the name is also its key. */
export function nameOf({ kind, member = 0, layer = 0, index = 0 }) {
  const letter = kind === KINDS.c ? "c" : "h";
  const of = (chosen()?.memberCount ?? 1) > 1 ? `, network ${member + 1}` : "";
  return `${letter}${index}, layer ${layer + 1}${of}`;
}

/** Show a unit's strip, or hide it. */
export function toggle(unit) {
  const key = nameOf(unit);
  const isShown = state.units.some((each) => each.key === key);
  const rest = state.units.filter((each) => each.key !== key);
  set({ units: isShown ? rest : [...rest, { key, unit }], problem: null });
}

/** Colour the text by a unit, or by surprise again. */
export function colour(unit) {
  const key = nameOf(unit);
  const isOn = state.colouring?.key === key;
  set({ colouring: isOn ? null : { key, unit }, shade: isOn ? "surprise" : "unit", problem: null });
}

const wanted = () => {
  const { units, colouring } = state;
  const isExtra = colouring && !units.some(({ key }) => key === colouring.key);
  return isExtra ? [...units, colouring] : units;
};

/** Return the pieces of a text that a model has read, by their numbers. */
function piecesOf(reading) {
  if (!known.has(reading)) known.set(reading, new Map());
  const ofModels = known.get(reading);
  if (!ofModels.has(state.model)) ofModels.set(state.model, []);
  return ofModels.get(state.model);
}

/** Return a unit's value after a symbol; undefined while it is not known. */
export const valueAt = (reading, key, at) =>
  piecesOf(reading)[Math.floor(at / PIECE)]?.values.get(key)?.[at % PIECE];

/** Return the largest value of a unit that has been seen, so that c fits its strip; at least 1. */
export const scaleOf = (reading, key) =>
  Math.max(1, ...piecesOf(reading).map((piece) => piece?.most.get(key) ?? 1));

/** Read the pieces of a text between two symbols that are not known yet, one after another. */
export async function look(reading, from, to) {
  const units = wanted();
  if (isBusy || !units.length || state.problem || !reading.length) return;
  const pieces = piecesOf(reading);
  const last = Math.floor(Math.min(to, reading.length - 1) / PIECE);
  for (let number = Math.floor(from / PIECE); number <= last; number++) {
    const count = Math.min(PIECE, reading.length - number * PIECE);
    const piece = pieces[number];
    if (piece?.count === count && units.every(({ key }) => piece.values.has(key))) continue;
    isBusy = true;
    try {
      pieces[number] = await read(reading, number * PIECE, count, units);
      set({});
    } catch (error) {
      set({ problem: error });
    } finally {
      isBusy = false;
    }
    return;
  }
}

async function read(reading, from, count, units) {
  const symbols = reading.symbols.slice(from, from + count);
  const answer = await inspect(reading, from, symbols, { units: units.map(({ unit }) => unit) });
  const values = new Map(units.map(({ key }, at) => [key, answer.units[at].values.map(Number)]));
  const most = new Map([...values].map(([key, own]) => [key, Math.max(...own.map(Math.abs))]));
  return { count, values, most };
}

/** Inspect symbols as if they stood at a place of a text. */
export async function inspect(reading, place, symbols, body) {
  const model = chosen();
  await capsuleAt(reading, place, model); // so that nothing before has to be read with them
  const { answer, before } = await readAt("Inspect", reading, place, symbols, model, body);
  if (!before) return answer;
  const cut = (list = []) => list.slice(before);
  const units = (answer.units ?? []).map(({ values }) => ({ values: cut(values) }));
  return { ...answer, units, alternatives: cut(answer.alternatives), logProbs: cut(answer.logProbs) };
}

/** Return for each symbol whether a pattern holds there, as a text of 1 and 0. */
export function targetsOf(symbols, pattern) {
  const holds = new Uint8Array(symbols.length);
  const places = [];
  symbols.forEach((symbol, at) => {
    for (let unit = 0; unit < symbol.length; unit++) places.push(at);
  });
  for (const match of symbols.join("").matchAll(new RegExp(pattern, "gmu"))) {
    for (let at = match.index; at < match.index + match[0].length; at++) holds[places[at]] = 1;
  }
  return holds.join("");
}

/** Find the units that follow a pattern in the selection, or in the text's last symbols. */
export async function find(pattern) {
  const { reading } = state;
  const [start, to] = selection();
  const from = Math.max(start, to - LONGEST);
  const symbols = reading.symbols.slice(from, to);
  const targets = targetsOf(symbols, pattern);
  if (!targets.includes("1")) throw new Error("It holds nowhere in this text. Write more, or choose another.");
  if (!targets.includes("0")) throw new Error("It holds everywhere in this text. Choose another.");
  const model = chosen();
  const capsule = await capsuleAt(reading, from, model);
  const body = { model: model.name, text: symbols.join(""), targets, capsule };
  const { units = [] } = await call("FindUnits", body);
  const share = [...targets].filter((each) => each === "1").length / targets.length;
  return { units, share, from, to };
}
