// The API's own description, as a page: no other site is asked for anything.
import { h } from "./dom.js";

const main = document.getElementById("main");
const description = await (await fetch("/openapi.json")).json();
const schemas = description.components.schemas;

const nameOf = (schema) => schema?.$ref?.split("/").pop();

/** A type in a few words, with links to what it is made of. */
function type(schema) {
  if (!schema) return "";
  const name = nameOf(schema);
  if (name) return h("a", { href: `#${name}` }, name);
  const choices = schema.anyOf ?? schema.oneOf;
  if (choices) return choices.flatMap((each, place) => (place ? [" or ", type(each)] : [type(each)]));
  if (schema.type === "array") return ["list of ", type(schema.items)];
  const bounds = [["minimum", "from"], ["maximum", "to"], ["maxLength", "at most"], ["maxItems", "at most"]]
    .filter(([key]) => key in schema).map(([key, words]) => `${words} ${schema[key].toLocaleString("en")}`);
  return [schema.type ?? "anything", ...(bounds.length ? [` (${bounds.join(", ")})`] : [])];
}

function fields(name) {
  const schema = schemas[name];
  return h("section", { class: "doc", id: name },
    h("h3", {}, name),
    schema.description ? h("p", { class: "lead" }, schema.description) : null,
    h("div", { class: "table-wrap", tabindex: "0", role: "region", "aria-label": name }, h("table", {},
      h("thead", {}, h("tr", {}, ["Field", "Type", "Default"].map((words) => h("th", { scope: "col" }, words)))),
      h("tbody", {}, Object.entries(schema.properties ?? {}).map(([field, own]) => h("tr", {},
        h("th", { scope: "row" }, h("code", {}, field)), h("td", {}, type(own), own.description ? h("p", { class: "lead" }, own.description) : null),
        h("td", {}, schema.required?.includes(field) ? "required" : "default" in own ? h("code", {}, JSON.stringify(own.default)) : "")))))));
}

function operation(path, verb, about) {
  const asked = about.requestBody?.content["application/json"]?.schema;
  const answers = Object.entries(about.responses).map(([status, answer]) =>
    h("tr", {}, h("th", { scope: "row" }, status), h("td", {}, answer.description),
      h("td", {}, type(answer.content?.["application/json"]?.schema))));
  return h("section", { class: "doc" },
    h("h3", {}, h("span", { class: `verb ${verb}` }, verb.toUpperCase()), h("code", {}, path)),
    h("p", { class: "lead" }, about.description),
    asked ? h("p", {}, "Asks with ", type(asked)) : null,
    about.parameters ? h("p", {}, "Takes ", about.parameters.map((each) => [h("code", {}, each.name), " "])) : null,
    h("details", {}, h("summary", {}, "Answers"), h("div", { class: "table-wrap" }, h("table", {}, h("tbody", {}, answers)))));
}

main.append(
  h("div", { class: "doc" }, h("pre", {}, `curl -X POST ${location.origin}/recommend -H 'content-type: application/json' \\\n  -d '{"history": ["1", "2", "3"], "top_k": 5}'`)),
  h("h2", { class: "block", id: "requests" }, "Requests"),
  ...Object.entries(description.paths).flatMap(([path, verbs]) =>
    Object.entries(verbs).map(([verb, about]) => operation(path, verb, about))),
  h("h2", { class: "block", id: "types" }, "What is asked and answered"),
  ...Object.keys(schemas).sort().map(fields),
);
