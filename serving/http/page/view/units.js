// Hidden units: which have strips, which colours the text, which follow something.

import { html, useState } from "../vendor/htm-preact.js";
import { chosen, set } from "../store.js";
import { colour, find, KINDS, nameOf, toggle } from "../actions/units.js";

const PATTERNS = [
  ["inside quotes", '"[^"]*"|“[^”]*”'],
  ["inside brackets", "\\([^)]*\\)|\\[[^\\]]*\\]"],
  ["capitals", "\\p{Lu}"],
  ["beginnings of lines", "^.{1,12}"],
  ["spaces", " "],
  ["ends of words", "\\p{L}(?!\\p{L})"],
];

export function Units({ units, colouring, models, problem, reading }) {
  return html`
    <p>A strip below each line shows a unit's value after each symbol: up is above zero, down below.</p>
    ${problem && html`
      <p class="problem">${problem.message}</p>
      <button type="button" class="quiet" onClick=${() => set({ problem: null })}>Try again</button>
    `}
    <${List} shown=${units} colouring=${colouring} />
    ${models.length > 0 && html`<${Chooser} model=${chosen()} />`}
    <${Finder} reading=${reading} units=${units} colouring=${colouring} />
  `;
}

function List({ shown, colouring }) {
  const all = [...shown, ...(colouring && !shown.some(({ key }) => key === colouring.key) ? [colouring] : [])];
  const row = ({ key, unit }) => html`<${Row} key=${key} unit=${unit} shown=${shown} colouring=${colouring} />`;
  return html`<ul class="plain">${all.map(row)}</ul>`;
}

function Row({ unit, shown, colouring, children }) {
  const key = nameOf(unit);
  const hasStrip = shown.some((each) => each.key === key);
  const button = (label, name, isOn, act) => html`
    <button type="button" class="quiet" aria-label=${name} aria-pressed=${isOn} onClick=${() => act(unit)}>${label}</button>
  `;
  return html`
    <li class="row">
      <span class="unit">${key} ${children}</span>
      ${button("Strip", `Strip of ${key}`, hasStrip, toggle)}
      ${button("Colour", `Colour by ${key}`, colouring?.key === key, colour)}
    </li>
  `;
}

function Chooser({ model }) {
  const [unit, setUnit] = useState({ kind: KINDS.h, member: 0, layer: 0, index: 0 });
  const number = (name, label, most) => html`
    <label>
      <span>${label}</span>
      <input type="number" min=${name === "index" ? 0 : 1} max=${most} value=${unit[name] + (name === "index" ? 0 : 1)}
        onInput=${({ target }) => setUnit({ ...unit, [name]: Number(target.value) - (name === "index" ? 0 : 1) })} />
    </label>
  `;
  const kind = html`
    <label>
      <span>Value</span>
      <select value=${unit.kind} onChange=${({ target }) => setUnit({ ...unit, kind: target.value })}>
        <option value=${KINDS.h}>output h</option>
        <option value=${KINDS.c}>cell c</option>
      </select>
    </label>
  `;
  return html`
    <h3>One unit</h3>
    <div class="chooser">
      ${number("index", `Unit, to ${model.hiddenSize - 1}`, model.hiddenSize - 1)}
      ${model.layerCount > 1 && number("layer", "Layer", model.layerCount)}
      ${model.memberCount > 1 && number("member", "Network", model.memberCount)}
      ${model.cell === "lstm" && kind}
      <button type="button" class="act" onClick=${() => toggle(unit)}>Show</button>
    </div>
  `;
}

function Finder({ reading, units, colouring }) {
  const [pattern, setPattern] = useState(PATTERNS[0][1]);
  const [found, setFound] = useState(null);
  const [error, setError] = useState(null);
  const [isBusy, setBusy] = useState(false);
  const search = async () => {
    setBusy(true);
    setError(null);
    try {
      setFound(await find(pattern));
    } catch (caught) {
      setFound(null);
      setError(caught);
    }
    setBusy(false);
  };
  return html`
    <h3>Find units that follow</h3>
    <div class="row">
      ${PATTERNS.map(([label, each]) => html`
        <button type="button" key=${label} class="quiet" aria-pressed=${each === pattern} onClick=${() => setPattern(each)}>
          ${label}
        </button>
      `)}
    </div>
    <div class="chooser">
      <label class="wide">
        <span>Regular expression</span>
        <input type="text" spellcheck="false" value=${pattern} onInput=${({ target }) => setPattern(target.value)} />
      </label>
      <button type="button" class="act" disabled=${isBusy || !reading.length} onClick=${search}>${isBusy ? "…" : "Find"}</button>
    </div>
    <p class="hint">In the selection, or in all of the text if nothing is selected.</p>
    ${error && html`<p class="problem">${error.message}</p>`}
    ${found && html`
      <p>
        Holds at ${(100 * found.share).toFixed(1)} % of ${found.to - found.from} symbols. The score is the area under the
        ROC curve: 0.5 is chance, 1 tells it always. “Falls”: the value is lower where it holds.
      </p>
      <ol class="plain">${found.units.map(({ unit, score, falls }) => html`
        <${Row} key=${nameOf(unit)} unit=${unit} shown=${units} colouring=${colouring}><b>${score.toFixed(3)}</b>${falls ? " falls" : ""}<//>
      `)}</ol>
    `}
  `;
}
