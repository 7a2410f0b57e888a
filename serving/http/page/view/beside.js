// Several seeds side by side, while they are written and until one is chosen.

import { html } from "../vendor/htm-preact.js";
import { set, show } from "../store.js";
import { meanBits } from "../text/symbols.js";

const SEEN = 400; // symbols of each

export function Beside({ beside, nodes, leaf, writing }) {
  if (!beside.length) return null;
  const samples = beside.map((id) => nodes.get(id)).filter(Boolean);
  return html`
    <section class="beside" aria-label="Seeds side by side" aria-busy=${writing ? "true" : "false"}>
      <div class="samples">
        ${samples.map((node) => html`<${Sample} key=${node.id} node=${node} isShown=${node.id === leaf} />`)}
      </div>
      <button type="button" class="quiet close" aria-label="Close the seeds side by side" onClick=${() => set({ beside: [] })}>✕</button>
    </section>
  `;
}

function Sample({ node, isShown }) {
  const { symbols, logProbs, written } = node;
  const bits = meanBits(logProbs, 0, symbols.length);
  return html`
    <button type="button" class="sample" aria-pressed=${isShown} onClick=${() => show(node.id)}>
      <small>seed ${written.seed}${Number.isNaN(bits) ? "" : ` · ${bits.toFixed(2)} bits`}</small>
      <span>${symbols.slice(0, SEEN).join("")}${symbols.length > SEEN ? "…" : ""}</span>
    </button>
  `;
}
