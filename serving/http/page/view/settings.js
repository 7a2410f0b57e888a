// How the model writes, each setting with a word of explanation.

import { html } from "../vendor/htm-preact.js";
import { LABELS } from "../server/labels.js";
import { DEFAULTS, set, state } from "../store.js";

const FIELDS = [
  ["length", LABELS.max_new_symbols, "How many symbols to write at a time.", { min: 1, step: 1 }],
  ["temperature", LABELS["sampling.temperature"], "Below 1 the likely becomes likelier, above 1 the unlikely. 0 always takes the likeliest.", { min: 0, step: 0.05 }],
  ["topP", LABELS["sampling.top_p"], "Draws only from the likeliest symbols that together have this probability. Empty: from all.", { min: 0, max: 1, step: 0.01 }],
  ["topK", LABELS["sampling.top_k"], "Draws only from so many of the likeliest symbols. Empty: from all.", { min: 0, step: 1 }],
  ["minP", LABELS["sampling.min_p"], "Leaves out what is less probable than this share of the likeliest. Empty: nothing.", { min: 0, max: 1, step: 0.01 }],
  ["seed", LABELS.seed, "The same seed, text and settings write the same text again. Empty: a new one for each branch.", { min: 0, step: 1 }],
  ["samples", LABELS.sample_count, "Writes so many continuations at once, with this seed, the next, and so on.", { min: 1, max: 8, step: 1 }],
];

export function Settings({ settings }) {
  const change = (key) => (event) => set({ settings: { ...state.settings, [key]: event.target.value } });
  return html`
    <div class="settings">
      ${FIELDS.map(([key, label, hint, range]) => html`
        <label key=${key}>
          <span>${label}</span>
          <input
            type="number"
            ...${range}
            value=${settings[key]}
            placeholder=${DEFAULTS[key] || "–"}
            onInput=${change(key)}
            aria-describedby=${`hint-${key}`}
          />
          <small id=${`hint-${key}`}>${hint}</small>
        </label>
      `)}
      <label>
        <span>${LABELS.stop}</span>
        <textarea rows="2" value=${settings.stop} onInput=${change("stop")} aria-describedby="hint-stop"></textarea>
        <small id="hint-stop">Ends the text before any of these, one a line; \\n is a line's end.</small>
      </label>
      <button type="button" class="quiet" onClick=${() => set({ settings: { ...DEFAULTS } })}>Put all back</button>
    </div>
  `;
}
