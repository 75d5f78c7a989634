// What it remembers: both tiers, and why each entry is there.
import { memory } from "./api.js";
import { poster } from "./cards.js";
import { count, h } from "./dom.js";

export const title = "What it remembers";

const ORDERS = {
  "Most useful first": (a, b) => b.utility - a.utility,
  "Least useful first": (a, b) => a.utility - b.utility,
  "Newest first": (a, b) => a.age - b.age,
  "Most novel first": (a, b) => (b.novelty ?? 0) - (a.novelty ?? 0),
  "Most often merged first": (a, b) => b.merged.length - a.merged.length,
};

export async function show({ user }) {
  const held = await memory(user);
  if (!held.has_memory) {
    return h("p", { class: "empty" }, "The stage that is served has no memory yet: it comes with the third, finetune_moe.");
  }
  return [
    h("p", { class: "lead" }, "When the model weighs an item it looks into this memory: the latest items, "
      + "and older ones that were unlike what came before them. It lives here and is never sent."),
    figures(held),
    h("section", { class: "block", "aria-labelledby": "short" },
      h("h2", { id: "short" }, "Short term"),
      h("p", { class: "lead" }, "The latest items in the order in which they came, the newest on the right. "
        + "When one comes, the oldest goes."),
      strip(held.short_term)),
    h("section", { class: "block", "aria-labelledby": "long" }, longTerm(held)),
  ];
}

function figures(held) {
  const facts = [
    [`${held.short_term.length} of ${held.short_term_capacity}`, "latest items"],
    [`${held.long_term.length} of ${held.long_term_capacity}`, "novel items"],
    [held.long_term.reduce((sum, entry) => sum + entry.merged.length, 0), "merged into similar ones"],
    [held.evicted, "dropped for more useful ones"],
  ];
  return h("ul", { class: "figures" }, facts.map(([number, words]) =>
    h("li", { class: "figure" }, h("b", {}, String(number)), h("span", {}, words))));
}

function strip(entries) {
  if (!entries.length) return h("p", { class: "empty" }, "Nothing yet.");
  const list = h("ol", { class: "strip", tabindex: "0", "aria-label": "Short term, oldest first" }, entries.map((entry) =>
    h("li", {}, poster(entry.item), h("small", {}, h("span", { class: "visually-hidden" }, `${entry.item.title}. `), entry.why))));
  requestAnimationFrame(() => { list.scrollLeft = list.scrollWidth; });
  return list;
}

function longTerm(held) {
  const list = h("ol", { class: "entries" });
  const highest = Math.max(...held.long_term.map((entry) => entry.utility), 1e-9);
  const draw = (order) => list.replaceChildren(
    ...[...held.long_term].sort(ORDERS[order]).map((entry) => longTermEntry(entry, highest)));
  const chooser = h("select", { class: "sort", id: "order", onchange: (event) => draw(event.target.value) },
    Object.keys(ORDERS).map((order) => h("option", { value: order }, order)));
  draw(Object.keys(ORDERS)[0]);
  const free = held.long_term_capacity - held.long_term.length;
  const next = free > 0
    ? `${count(free, "place is", "places are")} free, so nothing has to go yet.`
    : "It is full: the least useful entry makes room for the next.";
  return [
    h("div", { class: "row spread" },
      h("h2", { id: "long" }, "Long term"),
      h("div", { class: "row" }, h("label", { for: "order", class: "visually-hidden" }, "Order"), chooser)),
    h("p", { class: "lead" }, `Items whose novelty was at least ${held.threshold.toFixed(2)} when they came. ${next}`),
    held.long_term.length ? list : h("p", { class: "empty" }, "Nothing was novel enough yet."),
  ];
}

function meter(words, share, number, kind) {
  return [
    h("span", {}, words),
    h("span", { class: `meter ${kind}`, "aria-hidden": "true", style: { "--width": `${Math.round(100 * Math.min(1, share))}%` } }, h("i")),
    h("span", { class: "number" }, number),
  ];
}

function longTermEntry(entry, highest) {
  const merged = entry.merged.length;
  return h("li", { class: entry.is_next ? "entry next" : "entry" },
    poster(entry.item),
    h("div", {},
      h("h3", {}, entry.item.title),
      h("div", { class: "badges" },
        entry.is_next ? h("span", { class: "badge warn" }, "next to be dropped") : null,
        merged ? h("span", { class: "badge" }, `merged ${count(merged, "time")}`) : null,
        h("span", { class: "badge" }, entry.age ? `${count(entry.age, "item")} ago` : "the latest"))),
    h("div", { class: "meters" },
      entry.novelty === null ? null : meter("novelty", entry.novelty, entry.novelty.toFixed(2), "is-picture"),
      meter("useful now", entry.utility / highest, entry.utility.toFixed(2), "is-memory")),
    h("p", {}, entry.why, merged ? ` Merged: ${entry.merged.slice(0, 3).map((item) => item.title).join("; ")}${merged > 3 ? " …" : ""}` : ""));
}
