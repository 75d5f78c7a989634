// A search field with suggestions, by the pattern of a combobox.
import { h, settled } from "./dom.js";

let made = 0;

/**
 * A field that looks something up as one types.
 * `find(text)` gives a promise of choices, `words(choice)` what stands for one, `choose(choice)` is
 * called when one is taken.
 */
export function finder(label, find, words, choose) {
  made += 1;
  const id = `finder-${made}`;
  let choices = [], at = -1;
  const list = h("ul", { class: "options", role: "listbox", id: `${id}-list`, "aria-label": "Suggestions" });
  const field = h("input", {
    id, type: "text", role: "combobox", autocomplete: "off", spellcheck: "false",
    "aria-expanded": "false", "aria-controls": `${id}-list`, "aria-autocomplete": "list",
    oninput: settled(look, 120), onkeydown: press, onblur: () => setTimeout(() => draw([]), 150),
  });

  async function look() {
    const text = field.value.trim();
    const found = text ? await find(text).catch(() => []) : [];
    if (text === field.value.trim()) draw(found);
  }

  function draw(found) {
    choices = found;
    at = found.length ? 0 : -1;
    field.setAttribute("aria-expanded", String(found.length > 0));
    list.replaceChildren(...found.map((choice, place) => h("li", {
      role: "option", id: `${id}-${place}`, "aria-selected": "false",
      onmousedown: (event) => { event.preventDefault(); take(place); },
    }, words(choice))));
    mark();
  }

  function mark() {
    [...list.children].forEach((option, place) => option.setAttribute("aria-selected", String(place === at)));
    if (at >= 0) {
      field.setAttribute("aria-activedescendant", `${id}-${at}`);
      list.children[at].scrollIntoView({ block: "nearest" });
    } else field.removeAttribute("aria-activedescendant");
  }

  function take(place) {
    const choice = choices[place];
    field.value = "";
    draw([]);
    choose(choice);
  }

  function press(event) {
    if (event.key === "Escape" && choices.length) { event.stopPropagation(); event.preventDefault(); draw([]); return; }
    if (!choices.length) return;
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      at = (at + (event.key === "ArrowDown" ? 1 : -1) + choices.length) % choices.length;
      mark();
      event.preventDefault();
    } else if (event.key === "Enter") {
      take(at);
      event.preventDefault();
    }
  }

  return h("div", { class: "finder" }, h("label", { for: id }, label), field, list);
}
