// What the keys do while the text has the focus.

import { chosen, move, redo, set, state, undo } from "../store.js";
import { alternativesAt } from "../actions/alternatives.js";
import { choose, stop, write } from "../actions/writing.js";

const VERTICAL = new Set(["ArrowUp", "ArrowDown", "PageUp", "PageDown", "Shift"]);
let column = null; // pixels, which the cursor keeps while it moves from line to line

/** Answer a key. `page` is the number of lines that are seen. */
export function onKey(event, layout, page) {
  const act = event.ctrlKey || event.metaKey ? withControl(event, layout) : plain(event, layout, page);
  if (!act) return;
  event.preventDefault();
  if (!VERTICAL.has(event.key)) column = null;
  act();
}

function plain(event, layout, page) {
  const { cursor } = state;
  const { key, shiftKey } = event;
  const line = layout.lineOf(cursor);
  const goTo = (to) => () => move(to, shiftKey);
  const goBy = (lines) => () => {
    column ??= layout.x(cursor);
    move(layout.symbolAt(line + lines, column), shiftKey);
  };
  if (/^[0-9]$/.test(key) && !event.altKey) return () => chooseNumber(Number(key) || 10);
  return {
    ArrowLeft: goTo(cursor - 1),
    ArrowRight: goTo(cursor + 1),
    ArrowUp: goBy(-1),
    ArrowDown: goBy(1),
    PageUp: goBy(-page),
    PageDown: goBy(page),
    Home: goTo(layout.line(line)[0]),
    End: goTo(endOf(layout, line)),
    Enter: () => chosen() && write(), // not before the server has told its models
    Escape: () => (state.writing ? stop() : set({ anchor: null })),
  }[key];
}

function withControl({ key, shiftKey }, layout) {
  const end = layout.symbols.length;
  const all = () => set({ anchor: 0, cursor: end });
  return {
    ArrowLeft: () => move(word(layout.symbols, state.cursor, -1), shiftKey),
    ArrowRight: () => move(word(layout.symbols, state.cursor, 1), shiftKey),
    Home: () => move(0, shiftKey),
    End: () => move(end, shiftKey),
    a: all,
    z: shiftKey ? redo : undo,
    Z: redo,
    y: redo,
  }[key];
}

const endOf = (layout, line) => {
  const [, to] = layout.line(line);
  return line === layout.count - 1 ? to : to - 1;
};

function word(symbols, from, step) {
  const isLetter = (at) => /[\p{L}\p{N}']/u.test(symbols[at] ?? "");
  let at = from;
  const next = () => (step < 0 ? at - 1 : at);
  const isInside = () => at + step >= 0 && at + step <= symbols.length;
  while (isInside() && !isLetter(next())) at += step;
  while (isInside() && isLetter(next())) at += step;
  return at;
}

async function chooseNumber(number) {
  const found = alternativesAt(state.reading, state.cursor)?.[number - 1];
  if (found) await choose(state.cursor, found.symbol);
}
