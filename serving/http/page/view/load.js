// What the server is doing now, for all its callers.

import { html, useEffect, useState } from "../vendor/htm-preact.js";
import { counted } from "../text/symbols.js";
import { call } from "../server/wire.js";

const EVERY_MS = 2_000;

async function look() {
  try {
    const status = await call("GetStatus", {});
    return { status, at: performance.now() };
  } catch (problem) {
    return { problem };
  }
}

/** Look every two seconds while the page is seen; returns what ends it. */
function watch(take) {
  let isOn = true;
  let before = null;
  let timer;
  const again = async () => {
    const isSeen = document.visibilityState === "visible";
    const now = isSeen ? await look() : null;
    if (!isOn) return;
    if (isSeen) take({ ...now, before });
    before = now;
    timer = setTimeout(again, EVERY_MS);
  };
  again();
  return () => {
    isOn = false;
    clearTimeout(timer);
  };
}

export function Load() {
  const [seen, setSeen] = useState(null);
  useEffect(() => watch(setSeen), []);
  if (!seen) return null;
  if (seen.problem) return html`<p class="problem">What the server is doing is not known: ${seen.problem.message}</p>`;
  const { models, sessionsInUse = 0, sessionsInMemory = 0 } = seen.status;
  return html`
    <table aria-label="Load">
      <thead><tr><th>Model</th><th>Waiting</th><th>In slots</th><th>Read /s</th><th>Written /s</th></tr></thead>
      <tbody>${models.map((each) => html`<${Row} key=${keyOf(each)} model=${each} seen=${seen} />`)}</tbody>
    </table>
    <p>${counted(sessionsInUse)} sessions in use, ${counted(sessionsInMemory)} in memory.</p>
  `;
}

const keyOf = ({ name, fingerprint }) => `${name} ${fingerprint}`;

function Row({ model, seen }) {
  const newest = seen.status.models.find(({ name }) => name === model.name);
  const { name, fingerprint, queued = 0, running = 0, slots } = model;
  return html`
    <tr>
      <th scope="row">${name}${model !== newest && `, before: ${fingerprint.slice(0, 8)}`}</th>
      <td>${counted(queued)}</td>
      <td>${running} of ${slots}</td>
      <td>${speedOf("symbolsRead", model, seen)}</td>
      <td>${speedOf("symbolsWritten", model, seen)}</td>
    </tr>
  `;
}

/** How fast a count of a model grows, by two answers of one process. */
function speedOf(count, model, { status, at, before }) {
  if (before?.status?.startTime !== status.startTime) return "…";
  const earlier = before.status.models.find((each) => keyOf(each) === keyOf(model));
  if (!earlier) return "…";
  const symbols = Number(model[count] ?? 0) - Number(earlier[count] ?? 0);
  return counted(Math.round((1000 * symbols) / (at - before.at)));
}
