// What the model thought possible at the cursor.

import { html, useEffect, useState } from "../vendor/htm-preact.js";
import { alternativesAt, ask, drawn } from "../actions/alternatives.js";
import { shown } from "../text/symbols.js";
import { choose, sampling } from "../actions/writing.js";

const SHOWN = 10;
const PAUSE_MS = 120; // so that a cursor on its way does not ask

function percent(share) {
  if (share >= 0.0995) return `${(100 * share).toFixed(0)} %`;
  if (share >= 0.00005) return `${(100 * share).toFixed(2)} %`;
  return share > 0 ? "<0.01 %" : "0";
}

export function Here({ reading, cursor, writing, model, models, settings }) {
  const [error, setError] = useState(null);
  const list = alternativesAt(reading, cursor);
  useEffect(() => {
    setError(null);
    if (writing || list || !models.length) return undefined;
    const timer = setTimeout(() => ask(reading, cursor).catch(setError), PAUSE_MS);
    return () => clearTimeout(timer);
  }, [reading, cursor, reading.length, writing, model, models]);

  const actual = reading.symbols[cursor];
  return html`
    <p>
      ${actual === undefined
        ? "What could come next."
        : html`What could stand in the place of <b class="symbol">${shown(actual)}</b>. To choose another branches there.`}
    </p>
    ${error && html`<p class="problem">${error.message}</p>`}
    ${list && html`<${Table} list=${list} actual=${actual} place=${cursor} settings=${settings} isBusy=${writing} />`}
    <p class="hint">In the text, the keys 1 to 9 and 0 choose, too.</p>
  `;
}

function Table({ list, actual, place, isBusy }) {
  const after = drawn(list, sampling());
  const rows = list.slice(0, SHOWN).map((each, at) => ({ ...each, at }));
  const own = list.findIndex(({ symbol }) => symbol === actual);
  if (own >= SHOWN) rows.push({ ...list[own], at: own });
  return html`
    <table class="bars choices">
      <caption>The likeliest symbols</caption>
      <thead>
        <tr>
          <th scope="col">symbol</th>
          <th scope="col"><span class="unseen">share</span></th>
          <th scope="col">model</th>
          <th scope="col">drawn</th>
        </tr>
      </thead>
      <tbody>
        ${rows.map(({ symbol, logProb, at }) => html`
          <tr key=${at} class=${symbol === actual ? "actual" : ""}>
            <th scope="row">
              <button
                type="button"
                class="symbol"
                disabled=${isBusy}
                aria-label=${`Choose ${shown(symbol)}`}
                onClick=${() => choose(place, symbol)}
              >${shown(symbol)}</button>
            </th>
            <td><i style=${{ width: `${100 * Math.exp(logProb)}%` }}></i></td>
            <td>${percent(Math.exp(logProb))}</td>
            <td>${percent(after[at])}</td>
          </tr>
        `)}
      </tbody>
    </table>
    <p class="hint">“model” is the network's own probability, “drawn” that after temperature and filters.</p>
  `;
}
