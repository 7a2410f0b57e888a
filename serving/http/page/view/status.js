// The line below the text: where the cursor is, and what is going on.

import { html } from "../vendor/htm-preact.js";
import { selection } from "../store.js";
import { bitsText, counted, meanBits, shown } from "../text/symbols.js";

export function StatusLine({ reading, cursor, anchor, writing }) {
  const [from, to] = selection();
  const mean = meanBits(reading.logProbs, from, to);
  const seed = reading.stepAt(Math.max(0, Math.min(cursor, reading.length - 1)))?.node.written?.seed;
  const isEnd = cursor === reading.length;
  return html`
    <p class="status">
      ${reading.length > 0 &&
      html`
        <span>${isEnd ? `${counted(reading.length)} symbols` : `${counted(cursor + 1)} of ${counted(reading.length)}`}</span>
        ${!isEnd && html`<span><b class="symbol">${shown(reading.symbols[cursor])}</b> ${bitsText(reading.logProbs[cursor])}</span>`}
        ${!Number.isNaN(mean) && html`<span>${mean.toFixed(2)} bits per character${anchor !== null && ` of ${counted(to - from)}`}</span>`}
        ${seed && html`<span>seed ${seed}</span>`}
      `}
      ${writing && html`<span class="busy">${writing.isSilent ? "waiting for the server" : "writing"}</span>`}
    </p>
  `;
}
