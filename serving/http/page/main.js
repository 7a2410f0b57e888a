// The page: what it knows is drawn again after each change.

import { html, render } from "./vendor/htm-preact.js";
import { begin } from "./begin.js";
import { keep } from "./actions/keeping.js";
import { open } from "./actions/links.js";
import { state, subscribe } from "./store.js";
import { App } from "./view/app.js";

const draw = () => render(html`<${App} ...${state} />`, document.getElementById("app"));

keep();
subscribe(draw);
draw();
begin();
addEventListener("hashchange", open);
