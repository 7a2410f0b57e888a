// Where one types, and lets the model write.

import { html, useRef, useState } from "../vendor/htm-preact.js";
import { canUndo, undo } from "../store.js";
import { stop, type, write } from "../actions/writing.js";

export function Composer({ reading, cursor, writing, models }) {
  const [text, setText] = useState("");
  const field = useRef();
  const isRead = useRef(false); // while the server reads what was typed
  const isBack = cursor < reading.length;
  const isReady = models.length > 0;
  const empty = () => {
    setText("");
    field.current.style.height = "";
  };
  const typed = async () => {
    if (isRead.current) return false;
    isRead.current = true;
    empty();
    const isIn = await type(text);
    if (!isIn) setText((since) => text + since);
    isRead.current = false;
    return isIn;
  };
  const go = async () => {
    if (await typed()) await write();
  };
  const onKey = (event) => {
    if (event.key === "Escape" && writing) stop();
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    if (!writing && isReady) go();
  };
  const onInput = ({ target }) => {
    setText(target.value);
    target.style.height = "";
    target.style.height = `${target.scrollHeight}px`;
  };
  const placeholder = !reading.length
    ? "Begin a text"
    : isBack
      ? "Branch here"
      : "Go on here";
  return html`
    <form class="composer" onSubmit=${(event) => event.preventDefault()}>
      <textarea
        ref=${field}
        rows="1"
        aria-label="Text to add at the cursor. Enter lets the model write on, Shift Enter is a new line."
        placeholder=${placeholder}
        value=${text}
        onInput=${onInput}
        onKeyDown=${onKey}
      ></textarea>
      <div class="buttons">
        <button type="button" class="quiet" disabled=${!canUndo()} onClick=${undo}>Undo</button>
        <button type="button" class="quiet" disabled=${writing || !text || !isReady} onClick=${typed}>Add</button>
        ${writing
          ? html`<button type="button" class="main" onClick=${stop}>Stop</button>`
          : html`<button type="button" class="main" disabled=${!isReady} onClick=${go}>${isBack ? "Branch" : reading.length ? "Go on" : "Write"}</button>`}
      </div>
    </form>
  `;
}
