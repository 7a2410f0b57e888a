// What lies behind the text and between its lines: surprise, selection, cursor, units.

import { bitsOf } from "./symbols.js";

export const STRIP = 18; // pixels of height, one below the other
const LABELLED = 60; // pixels of the margin from which strips have names
const BITS = 8; // with which the shade is full
const RULES = [1.5, 4, 7]; // bits from which the underline is one, two, three pixels thick

/** Read the colours of the page, which change with the scheme. */
export function colours() {
  const style = getComputedStyle(document.documentElement);
  const read = (name) => style.getPropertyValue(name).trim();
  const names = ["ink", "muted", "warm", "cool", "cursor", "select", "rule"];
  return Object.fromEntries(names.map((name) => [name, read(`--${name}`)]));
}

/** Draw the lines that are seen.
 *
 * view: {layout, first, last, top, lineHeight, textHeight, left}; top is that of line `first`.
 * what: {logProbs, shade, valueOf, colouring, strips, selection, cursor, hasFocus}; valueOf tells the
 * value of a unit after a symbol, from -1 to 1.
 */
export function paint(context, view, what, colour) {
  for (let number = view.first; number <= view.last; number++) {
    const y = view.top + (number - view.first) * view.lineHeight;
    paintLine(context, view, what, colour, number, y);
  }
}

function paintLine(context, view, what, colour, number, y) {
  const { layout, left, textHeight } = view;
  const [from, to] = layout.line(number);
  let x = left;
  if (left > LABELLED) what.strips.forEach((key, index) => label(context, colour, key, left, y + textHeight + 3 + index * STRIP));
  for (let at = from; at < to; at++) {
    const wide = layout.measure(layout.symbols[at]) || 5;
    if (what.selection && at >= what.selection[0] && at < what.selection[1]) {
      fill(context, colour.select, 1, x, y, wide, textHeight);
    }
    if (what.shade === "surprise") surprise(context, colour, what.logProbs[at], x, y, wide, textHeight);
    if (what.colouring) {
      const value = what.valueOf(what.colouring, at);
      if (value !== undefined) tint(context, colour, value, x, y, wide, textHeight);
    }
    what.strips.forEach((key, index) => {
      const value = what.valueOf(key, at);
      const top = y + textHeight + 3 + index * STRIP;
      if (value !== undefined) bar(context, colour, value, x, top, wide);
    });
    if (at === what.cursor) cursor(context, colour, what.hasFocus, x, y, Math.max(wide, 5), textHeight);
    x += wide;
  }
  const isEnd = what.cursor === layout.symbols.length && number === layout.count - 1;
  if (isEnd) cursor(context, colour, what.hasFocus, x, y, 2, textHeight);
}

function label(context, colour, key, left, top) {
  context.font = "11px sans-serif";
  context.textAlign = "right";
  context.fillStyle = colour.muted;
  context.fillText(key.split(",")[0], left - 10, top + STRIP / 2 + 2);
}

function fill(context, style, alpha, x, y, wide, high) {
  context.globalAlpha = alpha;
  context.fillStyle = style;
  context.fillRect(x, y, wide, high);
  context.globalAlpha = 1;
}

function surprise(context, colour, logProb, x, y, wide, high) {
  if (Number.isNaN(logProb)) return;
  const bits = bitsOf(logProb);
  const share = Math.min(bits / BITS, 1);
  if (share > 0.06) fill(context, colour.warm, 0.42 * share, x, y, wide + 0.3, high);
  const thick = RULES.filter((each) => bits >= each).length;
  if (thick) fill(context, colour.warm, 0.9, x, y + high - thick, wide - 1, thick);
}

function tint(context, colour, share, x, y, wide, high) {
  const hue = share > 0 ? colour.warm : colour.cool;
  fill(context, hue, 0.6 * Math.min(Math.abs(share), 1), x, y, wide + 0.3, high);
  // Not by colour alone: what is above zero has a line.
  if (share > 0.15) fill(context, hue, 0.9, x, y + high - 2, wide - 1, 2);
}

function bar(context, colour, share, x, top, wide) {
  const half = STRIP / 2 - 2;
  const high = Math.min(Math.abs(share), 1) * half;
  const middle = top + half;
  fill(context, colour.rule, 1, x, middle, wide + 0.3, 1);
  const hue = share > 0 ? colour.warm : colour.cool;
  fill(context, hue, 0.85, x, share > 0 ? middle - high : middle + 1, wide + 0.3, high);
}

function cursor(context, colour, hasFocus, x, y, wide, high) {
  context.strokeStyle = colour.cursor;
  context.lineWidth = hasFocus ? 2 : 1;
  if (wide <= 2) fill(context, colour.cursor, hasFocus ? 1 : 0.5, x, y, hasFocus ? 2 : 1, high);
  else context.strokeRect(x - 0.5, y, wide + 1, high);
}
