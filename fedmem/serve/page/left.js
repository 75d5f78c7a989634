// What left this device: rounds, bytes, scopes, ε, and what an attacker would have learned.
import { device, exposure } from "./api.js";
import { count, h, size } from "./dom.js";

export const title = "What left this device";
const STAGES = {
  pretrain_sasrec: "1 · the sequence",
  align_projectors: "2 · content",
  finetune_moe: "3 · memory and content",
};

export async function show({ user }) {
  const [gone, seen] = await Promise.all([device(), exposure(user).catch(() => null)]);
  return [
    h("p", { class: "lead" }, "Training sends how numbers of the shared model should change, and counts. Never the history itself. "
      + "But changes can give a history away, so here is what is known about that."),
    h("section", { class: "block", "aria-labelledby": "sent" }, sent(gone)),
    h("section", { class: "block two" },
      h("div", { class: "panel" }, h("h2", {}, "What one upload gives away"), seen ? attack(seen) : h("p", { class: "lead" }, "It cannot be measured here.")),
      h("div", { class: "panel" }, h("h2", {}, "Privacy that was spent"), budget(gone))),
    h("section", { class: "block", "aria-labelledby": "never" },
      h("h2", { id: "never" }, "What never leaves"),
      h("ul", { class: "never" }, gone.never.map((words) => h("li", {}, words)))),
  ];
}

function sent(gone) {
  const head = h("h2", { id: "sent" }, "Sent in training");
  if (!gone.stages.length) {
    return [head, h("p", { class: "lead" }, `Nothing is recorded: ${gone.nodes}.`)];
  }
  const heads = [["Stage"], ["Rounds", 1], ["Uploads", 1], ["Sent", 1], ["Received", 1]];
  return [
    head,
    h("p", { class: "lead" }, `${gone.nodes[0].toUpperCase()}${gone.nodes.slice(1)}, from ${gone.source}.`),
    h("div", { class: "table-wrap", tabindex: "0", role: "region", "aria-label": "Table of what was sent" }, h("table", {},
      h("thead", {}, h("tr", {}, heads.map(([words, number]) => h("th", { scope: "col", class: number ? "number" : null }, words)))),
      h("tbody", {}, gone.stages.map((stage) => h("tr", {},
        h("th", { scope: "row" }, STAGES[stage.stage] ?? stage.stage),
        [stage.rounds, stage.messages].map((number) => h("td", { class: "number" }, number.toLocaleString("en"))),
        [stage.bytes_up, stage.bytes_down].map((bytes) => h("td", { class: "number" }, size(bytes)))))))),
    h("ul", { class: "scopes" }, gone.stages.filter((stage) => stage.parameters).map((stage) => h("li", {},
      h("b", {}, STAGES[stage.stage] ?? stage.stage),
      ` sends changes of ${count(stage.parameters, "number")} of the model: ${stage.scope.join(", ")}.`))),
  ];
}

function attack(seen) {
  const most = Math.min(seen.history, 400);
  const hits = Math.round((most * seen.found) / Math.max(seen.history, 1));
  return [
    h("p", { class: "big" }, `${seen.found} of ${seen.history}`),
    h("p", { class: "lead" }, `${seen.says} That is the simplest attack there is, tried here on this user and this model `
      + `(AUC ${seen.auc.toFixed(3)}, 0.5 is a guess).`),
    h("div", { class: "dots", "aria-hidden": "true" }, Array.from({ length: most }, (_, place) => h("i", { class: place < hits ? "hit" : "" }))),
  ];
}

function budget(gone) {
  if (gone.epsilon === null && gone.delta !== null) {
    return [
      h("p", { class: "big" }, "not counted"),
      h("p", { class: "lead" }, "The run that made this model kept an account of privacy, but to add it up takes dp-accounting, which is not installed here."),
    ];
  }
  if (gone.epsilon === null) {
    return [
      h("p", { class: "big" }, "no bound"),
      h("p", { class: "lead" }, "The run that made this model kept no account of privacy: nothing limits what its uploads give away."),
    ];
  }
  return [
    h("p", { class: "big" }, `ε ${gone.epsilon.toPrecision(3)}`),
    h("p", { class: "lead" }, `Over the whole run${gone.delta === null ? "" : `, with δ ${gone.delta}`}. The smaller it is, the less any one user changes what comes out.`),
  ];
}
