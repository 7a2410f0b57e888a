// Asks for the token that this server wants.

import { html } from "../vendor/htm-preact.js";
import { set } from "../store.js";
import { hasToken, keepToken } from "../server/wire.js";
import { begin } from "../begin.js";

const told = ({ text, error }) =>
  error?.code === "unauthenticated" ? "The server did not accept this token." : text;

export function Token({ notice }) {
  const enter = (event) => {
    event.preventDefault();
    keepToken(event.target.elements.token.value.trim()); // not a state's, which may still be of before
    set({ notice: null });
    begin();
  };
  return html`
    <div class="veil">
      <form class="token" role="dialog" aria-modal="true" aria-labelledby="token-title" onSubmit=${enter}>
        <h2 id="token-title">This server asks who you are</h2>
        <label>
          Token
          <input name="token" type="password" autocomplete="off" autofocus />
        </label>
        ${hasToken() && notice && html`<p class="problem">${told(notice)}</p>`}
        <p class="hint">It stays in this tab and is forgotten with it.</p>
        <button type="submit" class="main">Go on</button>
      </form>
    </div>
  `;
}
