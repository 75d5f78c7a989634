// Who am I: a choice among the users who live at this node.
import { users } from "./api.js";
import { closeSheet, h, openSheet, settled } from "./dom.js";

const KEY = "fedmem-user";

/** The user who was chosen last, or the first of this node. */
export async function remembered() {
  const kept = sessionStorage.getItem(KEY);
  const found = await users(kept ?? "");
  const same = found.users.find((each) => each.id === kept);
  const chosen = same ?? (await users()).users[0];
  return { chosen: chosen.id, items: chosen.items, total: found.total };
}

/** Ask who it is; `choose(id)` is called with the answer. */
export async function ask(current, choose) {
  const list = h("ul", { class: "people" });
  const summary = h("p", { class: "lead", "aria-live": "polite" });
  const draw = async (search) => {
    const found = await users(search);
    const some = found.users.length < found.total ? `${found.users.length} of ` : "";
    summary.textContent = `${some}${found.total.toLocaleString("en")} users live at this node.`;
    list.replaceChildren(...found.users.map((user) => h("li", {}, h("button", {
      type: "button", "aria-current": user.id === current ? "true" : null,
      onclick: () => { sessionStorage.setItem(KEY, user.id); closeSheet(); choose(user.id); },
    }, `User ${user.id}`, h("span", {}, `${user.items} items`)))));
  };
  const field = h("input", { id: "person", type: "search", autocomplete: "off", oninput: settled((event) => draw(event.target.value), 120) });
  openSheet("Who am I?", [summary, h("div", { class: "finder" }, h("label", { for: "person" }, "Find by id"), field), list], true);
  await draw("");
  field.focus();
}
