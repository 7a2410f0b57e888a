// One text of the tree laid out flat: its symbols, their log-probabilities and its capsules.

import { pathTo, placeIn } from "./tree.js";

/** The text that ends with a node. It grows with that node and never otherwise changes. */
export class Reading {
  constructor(nodes, leaf) {
    this.leaf = leaf;
    this.path = pathTo(nodes, leaf);
    this.symbols = [];
    this.logProbs = [];
    this.further = []; // capsules of places that were looked at
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
    for (const mark of this.#marks(fingerprint)) {
      if (mark.place <= at && mark.place > from) [from, capsule] = [mark.place, mark.capsule];
    }
    return { from, prompt: this.text(from, at), capsule };
  }

  #marks(fingerprint) {
    const steps = this.path.filter(({ node }) => node.fingerprint === fingerprint);
    const own = steps.flatMap(({ node, from, to }) =>
      node.marks
        .map(({ at, capsule }) => ({ place: from + at, capsule }))
        .filter(({ place }) => place <= to),
    );
    return [...own, ...this.further.filter((each) => each.fingerprint === fingerprint)];
  }

  /** Keep a capsule of a place, for later. */
  mark(place, capsule, fingerprint) {
    this.further.push({ place, capsule, fingerprint });
  }

  /** Forget all capsules: the server takes them no more. */
  forget() {
    this.further = [];
    for (const { node } of this.path) node.marks.length = 0;
  }
}
