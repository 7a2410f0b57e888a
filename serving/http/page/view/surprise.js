// How surprised the model was: a histogram of the selection, and how the text is shaded.

import { html } from "../vendor/htm-preact.js";
import { selection, set } from "../store.js";
import { bitsOf, counted, meanBits } from "../text/symbols.js";

const BINS = 11;

/** Count the symbols by whole bits of surprise; the last bin has all above. */
export function histogram(logProbs, from, to) {
  const bins = new Array(BINS).fill(0);
  for (let at = from; at < to; at++) {
    if (Number.isNaN(logProbs[at])) continue;
    bins[Math.min(Math.floor(bitsOf(logProbs[at])), BINS - 1)]++;
  }
  return bins;
}

export function Surprise({ reading, anchor, shade, colouring }) {
  const [from, to] = selection();
  const bins = histogram(reading.logProbs, from, to);
  const most = Math.max(...bins, 1);
  const mean = meanBits(reading.logProbs, from, to);
  const option = (value, label) => html`
    <label class="choice">
      <input type="radio" name="shade" value=${value} checked=${shade === value} onChange=${() => set({ shade: value })} />
      <span>${label}</span>
    </label>
  `;
  return html`
    <fieldset>
      <legend>Shade the text by</legend>
      ${option("surprise", "surprise")} ${colouring && option("unit", "the unit")} ${option("none", "nothing")}
    </fieldset>
    <p>The more surprised the model was by a symbol, the darker its shade and the thicker the line below it.</p>
    <p class="figure">
      <b>${Number.isNaN(mean) ? "–" : mean.toFixed(3)}</b> bits per character
      ${anchor === null ? " of the text, " : " of the selection, "}${counted(to - from)} symbols
    </p>
    <table class="bars">
      <caption>Symbols by bits of surprise</caption>
      <thead>
        <tr>
          <th scope="col">bits</th>
          <th scope="col"><span class="unseen">share</span></th>
          <th scope="col">symbols</th>
        </tr>
      </thead>
      <tbody>
        ${bins.map((count, bin) => html`
          <tr key=${bin}>
            <th scope="row">${bin < BINS - 1 ? `${bin}–${bin + 1}` : `${bin}+`}</th>
            <td><i style=${{ width: `${(100 * count) / most}%` }}></i></td>
            <td>${counted(count)}</td>
          </tr>
        `)}
      </tbody>
    </table>
  `;
}
