// How the page begins: it asks which models there are, then shows what the address tells of.

import { keepAddress, open } from "./actions/links.js";
import { set, state, subscribe, tellError } from "./store.js";
import { call } from "./server/wire.js";

let latest = 0; // the number of the beginning that counts

/** Begin; without a token that the server wants, it is asked for, and this is done again. */
export async function begin() {
  const number = ++latest;
  try {
    const { models = [] } = await call("ListModels", {});
    if (number !== latest) return; // another token was given meanwhile
    const isKnown = models.some(({ name }) => name === state.model);
    const model = isKnown ? state.model : models[0].name;
    set({ models, model, needsToken: false, notice: null });
  } catch (error) {
    if (number === latest) tellError(error);
    return;
  }
  await open();
  subscribe(keepAddress);
}
