// The server: its models, whether it is ready, what it is doing, and how fast it writes for this page.

import { html, useEffect, useState } from "../vendor/htm-preact.js";
import { counted } from "../text/symbols.js";
import { get } from "../server/wire.js";
import { Load } from "./load.js";

const EVERY_MS = 3_000;

async function look() {
  try {
    const [ready, told] = await Promise.all([get("readyz"), get("version")]);
    const { version, runtime } = told.ok ? await told.json() : {};
    return { state: ready.ok ? "ready" : "not ready: it drains, or an engine has failed", version, runtime };
  } catch {
    return { state: "does not answer" };
  }
}

export function Server({ models, model, nodes, pace }) {
  const [seen, setSeen] = useState({ state: "…" });
  useEffect(() => {
    let isOn = true;
    const again = () => look().then((told) => isOn && setSeen(told));
    again();
    const timer = setInterval(again, EVERY_MS);
    return () => {
      isOn = false;
      clearInterval(timer);
    };
  }, []);
  const sessions = [...nodes.values()].filter((node) => node.session).length;
  return html`
    <dl>
      <dt>State</dt><dd>${seen.state}</dd>
      ${seen.version && html`<dt>Version</dt><dd>${seen.version}, ${seen.runtime}</dd>`}
      <dt>Speed</dt><dd>${speedOf(pace)}</dd>
      <dt>Sessions</dt><dd>${sessions || "none"} of this page's texts</dd>
    </dl>
    <${Load} />
    ${models.map((each) => html`<${Model} key=${each.name} ...${each} isChosen=${each.name === model} />`)}
    <p class="hint">Of several processes, queue, slots and sessions are those of the one that answers.</p>
  `;
}

function speedOf(pace) {
  if (!pace?.symbols) return "nothing has been written yet";
  const { symbols, first, seconds } = pace;
  const speed = seconds > first ? `, ${counted(Math.round(symbols / seconds))} symbols a second` : "";
  return `first symbols after ${Math.round(1000 * first)} ms${speed}`;
}

function Model(model) {
  const loss = model.validationLoss;
  const size = `${model.layerCount} × ${model.hiddenSize}`;
  const members = model.memberCount > 1 ? `, ${model.memberCount} networks` : "";
  return html`
    <section class="model-card">
      <h3>${model.name}</h3>
      <dl>
        <dt>Cell</dt><dd>${model.cell}, ${size}${members}</dd>
        <dt>Weights</dt><dd>${counted(model.parameterCount)}, ${model.precision}</dd>
        ${loss !== undefined && html`<dt>Held-out text</dt><dd>${(loss / Math.LN2).toFixed(3)} bits per character</dd>`}
        <dt>Symbols</dt><dd>${[...model.vocabulary].length}</dd>
        <dt>Fingerprint</dt><dd><code>${model.fingerprint.slice(0, 16)}…</code></dd>
      </dl>
    </section>
  `;
}
