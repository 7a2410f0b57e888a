// The tree of texts.

import { html, useState } from "../vendor/htm-preact.js";
import { begin, compare, endSession, keepSession, remove, rename } from "../actions/branches.js";
import { exportFile, importFile } from "../actions/keeping.js";
import { address } from "../actions/links.js";
import { show, tell } from "../store.js";
import { counted } from "../text/symbols.js";
import { departures, ends, pathTo } from "../text/tree.js";

const SEEN = 70; // symbols of a text in the list
const DEEPEST = 6;

export function Branches({ nodes, leaf, writing }) {
  const [other, setOther] = useState("");
  const texts = ends(nodes);
  const isOther = texts.some(({ id }) => id === other && id !== leaf);
  return html`
    <div class="row">
      <button type="button" disabled=${writing} onClick=${begin}>New text</button>
      <button type="button" class="quiet" onClick=${copyLink}>Copy link</button>
      <button type="button" class="quiet" disabled=${!texts.length} onClick=${exportFile}>Export</button>
      <label class="file quiet">Import<input type="file" accept="application/json,.json" onChange=${onFile} /></label>
    </div>
    <ul class="tree">
      ${texts.map((node) => html`
        <${Text}
          key=${node.id}
          node=${node}
          nodes=${nodes}
          isShown=${node.id === leaf}
          isBusy=${writing}
          isOther=${node.id === other}
          setOther=${setOther}
        />
      `)}
    </ul>
    ${!texts.length && html`<p class="hint">Nothing has been written yet.</p>`}
    ${isOther && html`<${Comparison} nodes=${nodes} first=${leaf} second=${other} />`}
  `;
}

function Text({ node, nodes, isShown, isBusy, isOther, setOther }) {
  const { id, name, session } = node;
  const path = pathTo(nodes, id);
  const left = departures(nodes, path);
  const depth = Math.min(left.length, DEEPEST);
  const askName = () => {
    const given = prompt("Name of this text", name);
    if (given !== null) rename(id, given.trim());
  };
  return html`
    <li style=${{ marginLeft: `${depth * 0.9}rem` }} class=${isShown ? "shown" : ""}>
      <button type="button" class="open" disabled=${isBusy} aria-current=${isShown ? "true" : "false"} onClick=${() => show(id)}>
        ${name && html`<b>${name}</b>`}
        <span>${beginning(path, left.at(-1))}</span>
        <small>${counted(path.at(-1).to)} symbols${node.written ? ` · seed ${node.written.seed}` : " · typed"}</small>
      </button>
      <div class="row">
        <button type="button" class="quiet" onClick=${askName}>Name</button>
        ${!isShown && html`<button type="button" class="quiet" aria-pressed=${isOther} onClick=${() => setOther(isOther ? "" : id)}>Compare</button>`}
        ${session
          ? html`<button type="button" class="quiet" onClick=${() => endSession(id)}>End session</button>`
          : html`<button type="button" class="quiet" disabled=${isBusy} onClick=${() => keepSession(id)}>Keep on server</button>`}
        <button type="button" class="quiet" disabled=${isBusy} onClick=${() => remove(id)}>Delete</button>
      </div>
      ${session && html`<p class="hint">Session <code>${session}</code></p>`}
    </li>
  `;
}

/** Return how a text begins, or how it goes on where it left another. */
function beginning(path, from = path[0]) {
  const own = path.slice(path.indexOf(from)).flatMap((step) => {
    return step.node.symbols.slice(0, Math.min(SEEN + 1, step.to - step.from));
  });
  return own.slice(0, SEEN).join("").replace(/\s+/g, " ") + (own.length > SEEN ? "…" : "");
}

function Comparison({ nodes, first, second }) {
  const { at, before, tails } = compare(nodes, first, second);
  const show200 = (text) => (text.length > 240 ? `${text.slice(0, 240)}…` : text || "(ends here)");
  return html`
    <section class="comparison" aria-label="Comparison">
      <p>They part after <b>${counted(at)}</b> symbols.</p>
      <p class="before">${at > 60 ? "…" : ""}${before}</p>
      ${tails.map(({ text, bits }, index) => html`
        <div class="tail" key=${index}>
          <small>${index ? "the other" : "this text"}${Number.isNaN(bits) ? "" : ` · ${bits.toFixed(2)} bits per character`}</small>
          <p>${show200(text)}</p>
        </div>
      `)}
    </section>
  `;
}

async function copyLink() {
  const link = address();
  if (!link) return tell("This text has no link: it is empty, or two models wrote it.");
  try {
    await navigator.clipboard.writeText(link);
    tell("The link is in the clipboard.");
  } catch {
    tell("This browser does not let the page copy. The link is in the address bar.");
  }
}

function onFile({ target }) {
  if (target.files[0]) importFile(target.files[0]);
  target.value = "";
}
