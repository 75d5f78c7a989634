// The page: which view is shown, for whom, and what is served.
import { health } from "./api.js";
import { announce, h } from "./dom.js";
import * as forYou from "./foryou.js";
import * as left from "./left.js";
import * as memory from "./memory.js";
import * as person from "./person.js";
import * as trial from "./try.js";

const VIEWS = { "for-you": forYou, memory, try: trial, left };
const main = document.getElementById("main");
const state = { user: null, items: 0, total: 0, shown: 0 };

const wanted = () => (location.hash.slice(1) in VIEWS ? location.hash.slice(1) : "for-you");

async function draw({ focus = false } = {}) {
  const name = wanted(), view = VIEWS[name];
  state.shown += 1;
  const mine = state.shown;
  for (const tab of document.querySelectorAll(".tabs a")) {
    if (tab.hash === `#${name}`) tab.setAttribute("aria-current", "page");
    else tab.removeAttribute("aria-current");
  }
  document.title = `${view.title} · fedmem on this device`;
  main.classList.add("busy");
  main.setAttribute("aria-busy", "true");
  const head = h("h1", { tabindex: "-1" }, view.title);
  let content;
  try {
    content = await view.show({ user: state.user, items: state.items, refresh });
  } catch (error) {
    content = h("p", { class: "notice warn", role: "alert" }, error.message);
  }
  if (mine !== state.shown) return;
  main.replaceChildren(head, ...[content].flat());
  main.classList.remove("busy");
  main.removeAttribute("aria-busy");
  if (focus) {
    window.scrollTo(0, 0);
    head.focus();
    announce(view.title);
  }
}

/** Look again at who it is and what is served: something was forgotten, or somebody else asks. */
async function refresh() {
  const found = await person.remembered();
  Object.assign(state, { user: found.chosen, items: found.items, total: found.total });
  document.getElementById("who-name").textContent = `User ${state.user}`;
  document.getElementById("who").setAttribute("aria-label", `You are user ${state.user}. Choose another`);
  document.getElementById("who").hidden = state.total < 2;
  await Promise.all([draw(), showServed()]);
}

async function showServed() {
  const about = await health();
  document.getElementById("served").textContent =
    `Stage ${about.stage}, round ${about.round}, parameters ${about.checkpoint.slice(0, 8)}.`
    + (about.trouble ? ` A newer checkpoint could not be taken over: ${about.trouble}` : "");
}

document.getElementById("who").addEventListener("click", () => person.ask(state.user, () => refresh()));
// Before it is known who it is there is nothing to show; the first look shows what is wanted then.
window.addEventListener("hashchange", () => { if (state.user !== null) draw({ focus: true }); });
refresh().catch((error) => main.replaceChildren(h("p", { class: "notice warn", role: "alert" }, error.message)));
