// Forget: asked once more before it is done, and said plainly after it.
import { forget } from "./api.js";
import { announce, closeSheet, h, openSheet } from "./dom.js";

/** Ask whether an item is really to be forgotten; `done()` is called when it was. */
export function askToForget(user, item, done) {
  const trouble = h("p", { class: "notice warn", role: "alert", hidden: true });
  const yes = h("button", { type: "button", class: "main warn", onclick: async () => {
    yes.disabled = true;
    try {
      const answer = await forget(user, item.id);
      openSheet("Forgotten", [
        h("p", { class: "lead" }, `${item.title} is forgotten.`),
        h("ul", { class: "notice" }, answer.says.map((line) => h("li", {}, line))),
        h("p", { class: "row" }, h("button", { type: "button", class: "main", onclick: closeSheet }, "Good")),
      ], true);
      announce(`${item.title} is forgotten`);
      done();
    } catch (error) {
      trouble.hidden = false;
      trouble.textContent = error.message;
      yes.disabled = false;
    }
  } }, "Forget it for good");
  openSheet(`Forget ${item.title}?`, [
    h("p", { class: "lead" }, "It is removed from your history and from the memory on this disk, for good. "
      + "There is no way back, and what earlier rounds sent cannot be recalled."),
    trouble,
    h("p", { class: "row block" }, yes, h("button", { type: "button", onclick: closeSheet }, "Keep it")),
  ], true);
}
