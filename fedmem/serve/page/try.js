// Try: change the history and see at once what would be recommended; and forget for good.
import { health, history, items, recommend } from "./api.js";
import { PARTS, poster } from "./cards.js";
import { announce, h, settled } from "./dom.js";
import { finder } from "./finder.js";
import { askToForget } from "./forget.js";

export const title = "Try";
const SHOWN = 12;

export async function show({ user, refresh }) {
  const [real, about] = await Promise.all([history(user), health()]);
  const state = { items: real.items.map((item) => ({ ...item, own: true })), fresh: [] };
  const list = h("ol", { class: "history", "aria-label": "History, newest first", tabindex: "0" });
  const fresh = h("ul", { class: "history" });
  const picks = h("div", { "aria-live": "off" });
  const changed = h("p", { class: "lead" });
  let before = new Map();

  const rank = settled(async () => {
    picks.classList.add("busy");
    try {
      const found = state.items.length ? await ranked() : [];
      picks.replaceChildren(found.length ? pickList(found, before) : h("p", { class: "empty" }, "Add an item to begin."));
      if (!before.size) before = new Map(found.map((item, place) => [item.id, place]));
      announce(`${found.length} recommendations`);
    } catch (error) {
      picks.replaceChildren(h("p", { class: "notice warn", role: "alert" }, error.message));
    }
    picks.classList.remove("busy");
  }, 60);

  const ranked = async () => (await recommend({
    history: state.items.map((item) => item.id), top_k: SHOWN, new_items: state.fresh,
  })).results[0].items;

  function draw() {
    const own = state.items.filter((item) => item.own).length;
    const added = state.items.length - own, removed = real.items.length - own;
    changed.textContent = added + removed + state.fresh.length
      ? `Tried out: ${added} added, ${removed} left out, ${state.fresh.length} new. Nothing of it is kept.`
      : "As it is on this device. Changes here are tried out and not kept, but for what you forget.";
    list.replaceChildren(...[...state.items].reverse().map((item) => line(item)));
    fresh.replaceChildren(...state.fresh.map((item) => h("li", {}, h("span"), h("span", { class: "added" }, `${item.title} (new)`),
      h("button", { type: "button", class: "quiet", "aria-label": `Leave out ${item.title}`, onclick: () => { state.fresh = state.fresh.filter((each) => each !== item); draw(); } }, "Leave out"))));
    rank();
  }

  function line(item) {
    return h("li", {},
      poster(item),
      h("span", { class: item.own ? "" : "added" }, item.title),
      h("button", { type: "button", class: "quiet", "aria-label": `Leave out ${item.title}`, onclick: () => {
        state.items = state.items.filter((each) => each !== item);
        draw();
      } }, "Leave out"),
      item.own ? h("button", { type: "button", class: "quiet warn", "aria-haspopup": "dialog", "aria-label": `Forget ${item.title} for good`,
        onclick: () => askToForget(user, item, refresh) }, "Forget") : h("span"));
  }

  const add = (item) => {
    state.items = [...state.items.filter((each) => each.id !== item.id), item];
    draw();
    announce(`${item.title} added`);
  };
  draw();
  return [
    h("p", { class: "lead" }, "What would be recommended if the history were another? It is worked out here, as you change it."),
    h("div", { class: "two" },
      h("section", { "aria-labelledby": "own" },
        h("div", { class: "panel" },
          h("div", { class: "row spread" }, h("h2", { id: "own" }, "History"),
            h("button", { type: "button", class: "quiet", onclick: () => { state.items = real.items.map((item) => ({ ...item, own: true })); state.fresh = []; draw(); } }, "Start over")),
          changed,
          finder("Add an item by its title", items, (item) => item.title, add),
          fresh,
          list),
        newItem(about, (item) => { state.fresh = [...state.fresh, item]; draw(); })),
      h("section", { class: "panel", "aria-labelledby": "then" }, h("h2", { id: "then" }, "Then recommended"), picks)),
  ];
}

function pickList(found, before) {
  const highest = Math.max(...found.map((item) => Object.values(item.parts).reduce((sum, part) => sum + Math.max(part, 0), 0)), 1e-9);
  return h("ol", { class: "picks" }, found.map((item, place) => h("li", {},
    h("span", { class: "rank" }, String(place + 1)),
    poster(item),
    h("div", {}, item.title, item.is_new ? " (new)" : "",
      h("div", { class: "stack", "aria-hidden": "true" }, Object.keys(PARTS).map((part) =>
        h("i", { class: `is-${part}`, style: { "--width": `${(100 * Math.max(item.parts[part], 0)) / highest}%` } })))),
    move(before, item, place))));
}

function move(before, item, place) {
  if (!before.size) return h("span");
  const was = before.get(item.id);
  if (was === undefined) return h("span", { class: "move up" }, "came in");
  if (was === place) return h("span", { class: "move" }, h("span", { class: "visually-hidden" }, "as before"));
  return was > place
    ? h("span", { class: "move up" }, h("span", { class: "visually-hidden" }, "up "), `↑ ${was - place}`)
    : h("span", { class: "move" }, h("span", { class: "visually-hidden" }, "down "), `↓ ${place - was}`);
}

/** The file's bytes in base64. */
async function encoded(file) {
  const bytes = new Uint8Array(await file.arrayBuffer());
  let text = "";
  for (let start = 0; start < bytes.length; start += 32768) text += String.fromCharCode(...bytes.subarray(start, start + 32768));
  return btoa(text);
}

function newItem(about, add) {
  if (!about.new_items) return null;
  const name = h("input", { id: "new-title", required: true, maxlength: "200", autocomplete: "off" });
  const text = about.text_encoder ? h("textarea", { id: "new-text", maxlength: "4000" }) : null;
  const file = about.picture_encoder ? h("input", { id: "new-picture", type: "file", accept: "image/jpeg,image/png,image/webp" }) : null;
  const trouble = h("p", { class: "notice warn", role: "alert", hidden: true });
  const lacking = [text ? null : "texts", file ? null : "pictures"].filter(Boolean);
  const submit = async (event) => {
    event.preventDefault();
    const chosen = file?.files[0];
    const large = chosen && chosen.size > 2_000_000;
    trouble.hidden = !large && (text || chosen);
    trouble.textContent = large ? "The picture has more than 2 MB." : "Choose a picture.";
    if (!trouble.hidden) return;
    add({
      id: `new:${Date.now()}`, title: name.value.trim(),
      text: text ? `${name.value.trim()}. ${text.value.trim()}` : "",
      picture: chosen ? await encoded(chosen) : "",
    });
    event.target.reset();
  };
  return h("details", { class: "panel" },
    h("summary", {}, "Something that is not in the catalogue"),
    text || file ? h("form", { class: "form", onsubmit: submit },
      h("div", {}, h("label", { for: "new-title" }, "Title"), name),
      text ? h("div", {}, h("label", { for: "new-text" }, "What it is about"), text) : null,
      file ? h("div", {}, h("label", { for: "new-picture" }, "Picture, a JPEG, PNG or WebP"), file) : null,
      trouble,
      h("button", { class: "main" }, "Rank it too")) : null,
    lacking.length ? h("p", { class: "lead" }, `This node was started without an encoder of ${lacking.join(" and of ")}, so it cannot read new ones.`) : null);
}
