// One text of the tree laid out flat: its symbols, their log-probabilities and its capsules.

import { pathTo, placeIn } from "./tree.js";

/** The text that ends with a node. It grows with that node and never otherwise changes. */
export class Reading {
  constructor(nodes, leaf) {
    this.leaf = leaf;
    this.path = pathTo(nodes, leaf);
    this.symbols = [];
    this.logProbs = [];
    for (const step of this.path) this.#take(step.node, 0, step.to - step.from);
  }

  #take(node, from, to) {
    for (let at = from; at < to; at++) {
      this.symbols.push(node.symbols[at]);
      this.logProbs.push(node.logProbs[at] ?? NaN);
    }
  }

  /** Take what its last node has gained. */
  grow() {
    const end = this.path.at(-1);
    if (!end) return;
    const had = end.to - end.from;
    this.#take(end.node, had, end.node.symbols.length);
    end.to = end.from + end.node.symbols.length;
  }

  get length() {
    return this.symbols.length;
  }

  text(from = 0, to = this.length) {
    return this.symbols.slice(from, to).join("");
  }

  /** Return the place where a new step goes on: {parent, at}. */
  place(at) {
    return placeIn(this.path, at);
  }

  /** Return the step that holds a symbol; the last one at the end. */
  stepAt(at) {
    return this.path.find(({ to }) => at < to) ?? this.path.at(-1);
  }

  /** Return what a request goes on from to stand at a place: the nearest earlier capsule of that
   * model, and the symbols that have to be read from there. */
  origin(at, fingerprint) {
    let from = 0;
    let capsule;
    for (const step of this.path) {
      if (step.node.fingerprint !== fingerprint) continue;
      for (const mark of step.node.marks) {
        const place = step.from + mark.at;
        if (place <= at && place <= step.to && place > from) [from, capsule] = [place, mark.capsule];
      }
    }
    return { from, prompt: this.text(from, at), ...(capsule ? { capsule } : {}) };
  }

  /** Keep a capsule of a place, for later. */
  mark(at, capsule, fingerprint) {
    const step = this.path.find(({ to }) => at <= to);
    if (!step || step.node.fingerprint !== fingerprint || at === step.from) return;
    const marks = step.node.marks;
    if (!marks.some((each) => each.at === at - step.from)) marks.push({ at: at - step.from, capsule });
    marks.sort((first, second) => first.at - second.at);
  }
}
