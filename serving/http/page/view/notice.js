// What went wrong, in the server's words, and what else one should know.

import { html } from "../vendor/htm-preact.js";
import { set } from "../store.js";

const SILENT =
  "The server has sent nothing for 5 s. The text goes on as soon as it does; Stop keeps what is here.";

export function Notice({ notice, writing }) {
  const isSilent = writing?.isSilent;
  if (!notice && !isSilent) return html`<div role="alert"></div>`;
  const { text, action, error } = notice ?? { text: SILENT };
  const reason = error?.reason || error?.code;
  return html`
    <div role="alert" class="notice">
      <p>${text}${reason && html` <code>${reason}</code>`}</p>
      ${action && html`<button type="button" onClick=${action.run}>${action.label}</button>`}
      ${notice && html`<button type="button" class="quiet" aria-label="Close the notice" onClick=${() => set({ notice: null })}>✕</button>`}
    </div>
  `;
}
