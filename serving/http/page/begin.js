// How the page begins: it asks which models there are, then shows what the address tells of.

import { keepAddress, open } from "./actions/links.js";
import { set, state, subscribe, tellError } from "./store.js";
import { call } from "./server/wire.js";

/** Begin; without a token that the server wants, it is asked for, and this is done again. */
export async function begin() {
  try {
    const { models = [] } = await call("ListModels", {});
    const isKnown = models.some(({ name }) => name === state.model);
    set({ models, model: isKnown ? state.model : models[0].name, notice: null });
  } catch (error) {
    tellError(error);
    return;
  }
  await open();
  subscribe(keepAddress);
}
