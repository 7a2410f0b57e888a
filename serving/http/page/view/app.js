// The whole page.

import { html } from "../vendor/htm-preact.js";
import { set } from "../store.js";
import { shown } from "../text/symbols.js";
import { Beside } from "./beside.js";
import { Branches } from "./branches.js";
import { Composer } from "./composer.js";
import { Here } from "./here.js";
import { Memory } from "./memory.js";
import { Notice } from "./notice.js";
import { Server } from "./server.js";
import { Settings } from "./settings.js";
import { Surprise } from "./surprise.js";
import { TextPane } from "./text.js";
import { Token } from "./token.js";
import { Units } from "./units.js";

export const TABS = {
  settings: ["Settings", Settings],
  here: ["Here", Here],
  surprise: ["Surprise", Surprise],
  branches: ["Branches", Branches],
  units: ["Units", Units],
  memory: ["Memory", Memory],
  server: ["Server", Server],
};

export function App(props) {
  const { models, model, tab, needsToken, reading, cursor, writing } = props;
  const [title, Panel] = TABS[tab] ?? ["", null];
  return html`
    <header inert=${needsToken}>
      <h1>unroll</h1>
      <label class="model">
        <span class="unseen">Model</span>
        <select value=${model} onChange=${(event) => set({ model: event.target.value })}>
          ${models.map(({ name }) => html`<option value=${name} selected=${name === model}>${name}</option>`)}
        </select>
      </label>
      <nav aria-label="Panels">${Object.entries(TABS).map(([key, [label]]) => tabButton(key, label, tab))}</nav>
    </header>
    <main inert=${needsToken}>
      <${TextPane} ...${props} />
      <${Beside} ...${props} />
      ${!needsToken && html`<${Notice} ...${props} />`}
      <${Composer} ...${props} />
    </main>
    ${Panel && html`<aside aria-label=${title} tabindex="0" inert=${needsToken}><h2>${title}</h2><${Panel} ...${props} /></aside>`}
    ${needsToken && html`<${Token} notice=${props.notice} />`}
    <p class="unseen" role="status">${writing ? "" : spoken(reading, cursor)}</p>
  `;
}

const tabButton = (key, label, tab) => html`
  <button
    type="button"
    aria-expanded=${key === tab}
    onClick=${() => set({ tab: key === tab ? null : key })}
  >${label}</button>
`;

function spoken(reading, cursor) {
  if (!reading.length) return "";
  if (cursor === reading.length) return `End of the text, after ${cursor} symbols`;
  return `Symbol ${cursor + 1} of ${reading.length}: ${shown(reading.symbols[cursor])}`;
}
