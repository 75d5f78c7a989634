// Requests to this node, with its token where it asks for one.
import { closeSheet, h, openSheet } from "./dom.js";

const KEY = "fedmem-token";

/** An answer that was none: its status, and what the node says of it. */
export class Refused extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

function askForToken() {
  return new Promise((resolve) => {
    const field = h("input", { id: "token", type: "password", autocomplete: "off", required: true });
    const form = h("form", { class: "form", onsubmit: (event) => {
      event.preventDefault();
      sessionStorage.setItem(KEY, field.value.trim());
      closeSheet();
      resolve();
    } },
      h("p", { class: "lead" }, "This node asks for its token before it shows anything."),
      h("div", {}, h("label", { for: "token" }, "Token"), field),
      h("button", { class: "main" }, "Go on"));
    openSheet("Token", form, true);
    field.focus();
  });
}

async function send(path, options) {
  const token = sessionStorage.getItem(KEY);
  const headers = { ...options.headers, ...(token ? { authorization: `Bearer ${token}` } : {}) };
  return fetch(path, { ...options, headers });
}

/** The answer to a request: JSON, or a Blob where it is a picture. */
export async function ask(path, options = {}) {
  let answer = await send(path, options);
  if (answer.status === 401) {
    await askForToken();
    answer = await send(path, options);
  }
  if (answer.headers.get("content-type")?.startsWith("image/") && answer.ok) return answer.blob();
  const content = await answer.json().catch(() => ({ detail: answer.statusText }));
  if (!answer.ok) throw new Refused(answer.status, content.detail ?? answer.statusText);
  return content;
}

export const post = (path, body) =>
  ask(path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });

const name = encodeURIComponent;
export const recommend = (body) => post("/recommend", body);
export const health = () => ask("/health");
export const users = (search = "") => ask(`/users?search=${name(search)}`);
export const history = (user) => ask(`/users/${name(user)}`);
export const memory = (user) => ask(`/memory/${name(user)}`);
export const items = (search) => ask(`/items?search=${name(search)}`);
export const device = () => ask("/device");
export const exposure = (user) => ask(`/users/${name(user)}/exposure`);
export const forget = (user, item) =>
  ask(`/users/${name(user)}/items/${name(item)}`, { method: "DELETE" });

const pictures = new Map();

/** The address of an item's picture, fetched once. */
export function picture(item) {
  if (!pictures.has(item)) {
    pictures.set(item, ask(`/items/${name(item)}/picture`).then((blob) => URL.createObjectURL(blob)));
  }
  return pictures.get(item);
}
