// For you: what is recommended, and what each score is made of.
import { recommend } from "./api.js";
import { card, legend, rangeOf } from "./cards.js";
import { announce, h } from "./dom.js";

export const title = "For you";

export async function show({ user, items }) {
  if (!items) return empty();
  const { results } = await recommend({ user, top_k: 12, explain: true });
  const found = results[0].items;
  announce(`${found.length} recommendations`);
  const range = rangeOf(found);
  return [
    h("p", { class: "lead" }, `Ranked from ${items.toLocaleString("en")} items of your history, here on this device. `
      + "Each score is the sum of its four parts."),
    h("div", { class: "block" }, legend()),
    h("ol", { class: "cards" }, found.map((item, place) => card(item, place + 1, range))),
  ];
}

const empty = () =>
  h("p", { class: "empty" }, "Nothing is left of this history. Add items under Try to see what would be recommended.");
