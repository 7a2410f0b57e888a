// How long the model remembers the symbol at the cursor.

import { html, useState } from "../vendor/htm-preact.js";
import { forget, lastAbove } from "../actions/memory.js";
import { shown, split, tidy } from "../text/symbols.js";

const WIDE = 300;
const HIGH = 130;
const LOWEST = 1e-4;
const BOUND = 0.01;

export function Memory({ reading, cursor, writing }) {
  const [other, setOther] = useState("");
  const [found, setFound] = useState(null);
  const [error, setError] = useState(null);
  const actual = reading.symbols[cursor];
  const compare = async () => {
    setError(null);
    setFound(null);
    try {
      const symbol = split(tidy(other))[0];
      setFound({ ...(await forget(reading, cursor, symbol)), from: actual, to: symbol });
    } catch (caught) {
      setError(caught);
    }
  };
  if (actual === undefined) {
    return html`<p>Move the cursor back onto a symbol. Then see for how long another one in its place would have made a difference.</p>`;
  }
  return html`
    <p>Another symbol in the place of <b class="symbol">${shown(actual)}</b>, and all after it as it is: for how long do state and predictions differ?</p>
    <div class="chooser">
      <label><span>Other symbol</span><input type="text" maxlength="2" value=${other} onInput=${({ target }) => setOther(target.value)} /></label>
      <button type="button" class="act" disabled=${!other || writing} onClick=${compare}>Compare</button>
    </div>
    ${error && html`<p class="problem">${error.message}</p>`}
    ${found && html`<${Result} ...${found} />`}
  `;
}

function Result({ distance, divergence, units, from, to }) {
  const told = (list) => {
    const last = lastAbove(list, BOUND);
    return last === list.length ? `all ${last} symbols` : `${last} symbols`;
  };
  return html`
    <h3><b class="symbol">${shown(to)}</b> for <b class="symbol">${shown(from)}</b></h3>
    <${Curve} list=${divergence} label="Predictions: KL divergence, bits" />
    <p>They differ by more than ${BOUND} bits for ${told(divergence)}.</p>
    <${Curve} list=${distance} label=${`State: distance of ${units} units, as a share of their size`} />
    <p>It differs by more than ${100 * BOUND} % for ${told(distance)}.</p>
  `;
}

function Curve({ list, label }) {
  const top = Math.max(1, ...list);
  const share = (value) => Math.log(Math.max(value, LOWEST) / LOWEST) / Math.log(top / LOWEST);
  const x = (at) => (WIDE * at) / Math.max(1, list.length - 1);
  const y = (value) => HIGH * (1 - share(value));
  const line = list.map((value, at) => `${at ? "L" : "M"}${x(at).toFixed(1)} ${y(value).toFixed(1)}`).join("");
  const marks = [1, 0.1, 0.01, 0.001];
  const [first, last] = [list[0], list.at(-1)].map((value) => value.toPrecision(2));
  const told = `${first} at first, ${last} after ${list.length} symbols`;
  return html`
    <figure class="curve">
      <figcaption>${label}</figcaption>
      <svg viewBox=${`-34 -6 ${WIDE + 40} ${HIGH + 24}`} role="img" aria-label=${`${label}: ${told}`}>
        ${marks.map((mark) => html`
          <g key=${mark}>
            <line x1="0" x2=${WIDE} y1=${y(mark)} y2=${y(mark)} />
            <text x="-5" y=${y(mark) + 3.5} text-anchor="end">${mark}</text>
          </g>
        `)}
        <path d=${line} />
        <text x="0" y=${HIGH + 15}>0</text>
        <text x=${WIDE} y=${HIGH + 15} text-anchor="end">${list.length - 1} symbols since</text>
      </svg>
    </figure>
  `;
}
