// Elements from data: everything is text, nothing is parsed as HTML.

/**
 * An element with properties and children.
 * `on…` are listeners, `style` sets custom properties, `class` and others are attributes.
 */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") {
      for (const [key, own] of Object.entries(value)) element.style.setProperty(key, String(own));
    } else if (name === "value") element.value = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Say something to those who cannot see it change. */
export function announce(text) {
  const status = document.getElementById("status");
  status.textContent = "";
  requestAnimationFrame(() => { status.textContent = text; });
}

const sheet = () => document.getElementById("sheet");

/** Show a dialog; it closes by its button, by Escape and by a click beside it. */
export function openSheet(title, content, small = false) {
  const dialog = sheet();
  dialog.className = small ? "sheet small" : "sheet";
  dialog.replaceChildren(
    h("button", { type: "button", class: "quiet close", "aria-label": "Close", onclick: closeSheet }, "×"),
    h("h2", { id: "sheet-title" }, title),
    ...[content].flat(),
  );
  dialog.onclick = (event) => { if (event.target === dialog) closeSheet(); };
  if (!dialog.open) dialog.showModal();
}

export function closeSheet() {
  if (sheet().open) sheet().close();
}

export const count = (number, one, many = `${one}s`) =>
  `${number.toLocaleString("en")} ${number === 1 ? one : many}`;

export const signed = (number, digits = 2) =>
  `${number < 0 ? "−" : "+"}${Math.abs(number).toFixed(digits)}`;

/** Bytes in words. */
export function size(bytes) {
  const units = ["bytes", "kB", "MB", "GB", "TB"];
  let value = bytes, unit = 0;
  while (value >= 1000 && unit < units.length - 1) { value /= 1000; unit += 1; }
  return `${unit ? value.toPrecision(3) : value} ${units[unit]}`;
}

/** A function that runs when it has not been called for so many milliseconds. */
export function settled(run, milliseconds) {
  let timer;
  return (...values) => {
    clearTimeout(timer);
    timer = setTimeout(() => run(...values), milliseconds);
  };
}
