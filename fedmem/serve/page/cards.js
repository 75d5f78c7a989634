// How an item looks, and what its score is made of.
import { picture } from "./api.js";
import { h, openSheet, signed } from "./dom.js";

export const PARTS = { sequence: "Sequence", text: "Text", picture: "Picture", memory: "Memory" };
const MEANINGS = {
  sequence: "what usually follows on the items of your history",
  text: "what its text says",
  picture: "what its picture shows",
  memory: "what your memory holds",
};

/** The item's picture, or a card in the colour of its vector. */
export function poster(item) {
  const card = h("div", { class: "poster", style: { "--hue": item.hue }, "aria-hidden": "true" },
    h("b", {}, item.title),
    item.is_new ? h("span", { class: "new" }, "new") : null);
  if (item.picture) {
    picture(item.id).then((address) => card.append(h("img", { src: address, alt: "" })), () => {});
  }
  return card;
}

/** A bar from zero to a number, on an axis that reaches from the lowest to the highest. */
export function bar(value, lowest, highest, kind = "") {
  const low = Math.min(0, lowest), width = Math.max(highest, 0) - low || 1;
  const percent = (number) => `${(100 * number) / width}%`;
  return h("div", { class: `bar ${kind} ${value < 0 ? "against" : ""}`, "aria-hidden": "true", style: {
    "--from": percent(Math.min(value, 0) - low),
    "--width": percent(Math.abs(value)),
    "--zero": percent(-low),
  } }, h("i"));
}

/** The parts of a score as bars, on the axis that all cards share. */
function parts(item, range) {
  return h("dl", { class: "parts" }, Object.entries(PARTS).map(([part, words]) => [
    h("dt", {}, words),
    h("dd", {}, bar(item.parts[part], range[0], range[1], `is-${part}`)),
    h("dd", { class: "number" }, item.parts[part] ? signed(item.parts[part]) : "0"),
  ]));
}

export function legend() {
  return h("ul", { class: "legend" }, Object.entries(PARTS).map(([part, words]) =>
    h("li", { class: `is-${part}` }, `${words}: ${MEANINGS[part]}`)));
}

/** Lowest and highest part of all items. */
export function rangeOf(items) {
  const values = items.flatMap((item) => Object.values(item.parts));
  return [Math.min(0, ...values), Math.max(0, ...values)];
}

/** A recommendation: picture, title, the parts of its score, and why. */
export function card(item, rank, range) {
  const named = item.picture ? "" : "visually-hidden";  // a card without a picture shows its title
  return h("li", { class: "card" },
    poster(item),
    h("div", { class: "head" },
      h("h2", {}, h("span", { class: "rank" }, `${rank}`), h("span", { class: named }, `. ${item.title}`)),
      h("span", { class: "score" }, h("span", { class: "visually-hidden" }, "score "), item.score.toFixed(2))),
    parts(item, range),
    item.why ? h("button", { type: "button", class: "quiet", "aria-haspopup": "dialog",
      onclick: () => openSheet(item.title, reasons(item)) }, "Why this?", h("span", { class: "visually-hidden" }, ` ${item.title}`)) : null);
}

function effects(list, kind) {
  const values = list.map((each) => each.effect);
  const low = Math.min(0, ...values), high = Math.max(0, ...values);
  return h("ul", { class: "effects" }, list.map((each) => h("li", {},
    poster(each.item),
    h("span", { class: "name" }, each.item.title),
    h("span", { class: "number" }, signed(each.effect, 3)),
    bar(each.effect, low, high, kind))));
}

function reasons(item) {
  const { latest, memory, memory_rest: rest } = item.why;
  const strongest = [...memory].sort((a, b) => Math.abs(b.effect) - Math.abs(a.effect)).slice(0, 8)
    .sort((a, b) => b.effect - a.effect);
  const others = memory.length - strongest.length;
  const left = memory.reduce((sum, each) => sum + each.effect, rest)
    - strongest.reduce((sum, each) => sum + each.effect, 0);
  return h("div", { class: "reasons" },
    parts(item, rangeOf([item])),
    h("section", {},
      h("h3", {}, "Of the items that came last"),
      h("p", { class: "lead" }, "By how much the sequence's part would be lower without each. Numbers below zero spoke against it."),
      latest.length ? effects(latest, "is-sequence") : h("p", { class: "lead" }, "There is only one item to look at.")),
    h("section", {},
      h("h3", {}, "Of what the memory holds"),
      memory.length
        ? [h("p", { class: "lead" }, `What each entry adds to the memory's part of ${signed(item.parts.memory)}.`),
          effects(strongest, "is-memory"),
          h("p", { class: "lead" }, `${others > 0 ? `The ${others} others and w` : "W"}hat is no entry's: ${signed(left, 3)}.`)]
        : h("p", { class: "lead" }, "The stage that is served reads no memory.")));
}
