// The tree of texts. A node is one step of a text: what was typed, or what a model wrote. It goes on
// from the first `at` symbols of its parent. Nodes are a Map by id; what is here changes none of them.

const newId = () => Array.from(crypto.getRandomValues(new Uint32Array(2)), (each) => each.toString(36)).join("");

/** Make a node.
 *
 * parent: id; null at the start of a text. at: how many of the parent's symbols come before.
 * symbols, logProbs: its text, and the natural log of each probability, NaN where not scored.
 * marks: [{at, capsule}], in rising order: the state after that many of its symbols.
 * written: {sampling, seed, stop} if a model wrote it; null if it was typed.
 * model, fingerprint: that wrote or scored it.
 */
export function makeNode(fields) {
  const empty = { parent: null, at: 0, symbols: [], logProbs: [], marks: [], written: null };
  return { id: newId(), ...empty, model: "", fingerprint: "", finish: "", name: "", session: "", ...fields };
}

/** Return the steps of the text that ends with a node, first step first: [{node, from, to}], where
 * `from` is the place of the node's first symbol in the text and `to` that after its last. */
export function pathTo(nodes, leaf) {
  const chain = [];
  let count = nodes.get(leaf)?.symbols.length;
  for (let node = nodes.get(leaf); node; node = nodes.get(node.parent)) {
    chain.unshift({ node, count });
    count = node.at;
  }
  let from = 0;
  return chain.map(({ node, count: own }) => ({ node, from, to: (from += own) }));
}

/** Return where a text goes on from a place in a path: {parent, at}. */
export function placeIn(path, place) {
  const step = path.find(({ to }) => place <= to);
  if (!step || place === 0) return { parent: null, at: 0 };
  return { parent: step.node.id, at: place - step.from };
}

const childrenOf = (nodes, id) => [...nodes.values()].filter((each) => each.parent === id);

/** Return the nodes with which texts end, in the order of their making. */
export function ends(nodes) {
  const passed = new Set();
  for (const { parent, at } of nodes.values()) {
    if (parent !== null && at === nodes.get(parent).symbols.length) passed.add(parent);
  }
  return [...nodes.values()].filter((each) => !passed.has(each.id));
}

/** Return the nodes without a text: what no other text has, back to where it parted. */
export function without(nodes, leaf) {
  const kept = new Map(nodes);
  for (let id = leaf; id !== null; ) {
    const node = kept.get(id);
    const children = childrenOf(kept, id);
    if (children.length) {
      const used = Math.max(...children.map((each) => each.at));
      if (used < node.symbols.length) kept.set(id, cut(node, used));
      break;
    }
    kept.delete(id);
    const parent = kept.get(node.parent);
    if (!parent || node.at < parent.symbols.length) break;
    id = parent.id;
  }
  return kept;
}

function cut(node, count) {
  const symbols = node.symbols.slice(0, count);
  const logProbs = node.logProbs.slice(0, count);
  return { ...node, symbols, logProbs, marks: node.marks.filter(({ at }) => at <= count) };
}

/** Return where a text left others behind, as steps of its path: a step did if it began within its
 * parent, or after another step did at the same parent's end. */
export function departures(nodes, path) {
  return path.filter(({ node }) => {
    const parent = nodes.get(node.parent);
    if (!parent) return false;
    const first = childrenOf(nodes, parent.id).find((each) => each.at === parent.symbols.length);
    return node.at < parent.symbols.length || first !== node;
  });
}

/** Return one tree of two that began as the same, given the ids of that one: what either added, and
 * not what either deleted, unless something goes on from it. */
export function merged(ours, theirs, base) {
  const both = new Map([...theirs, ...ours]);
  const kept = new Set();
  for (const id of both.keys()) {
    const isWanted = base.has(id) ? ours.has(id) && theirs.has(id) : true;
    for (let each = id; isWanted && both.has(each) && !kept.has(each); each = both.get(each).parent) {
      kept.add(each);
    }
  }
  return new Map([...both].filter(([id]) => kept.has(id)));
}

/** Return how many symbols two lists have in common from their start. */
export function commonLength(first, second) {
  const most = Math.min(first.length, second.length);
  let at = 0;
  while (at < most && first[at] === second[at]) at++;
  return at;
}
