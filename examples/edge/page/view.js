// SPDX-License-Identifier: Apache-2.0
// Draws what was checked. Whatever a server said is text here, never markup.

const NAMES = {
  encryption: "Encryption in transit",
  service_authentication: "Service authentication",
  service_authorization: "Service-to-service authorization",
  user_authentication: "End-user authentication",
  user_authorization: "End-user-to-resource authorization",
};
const SIGNS = { passed: "✓", failed: "✗", "not-asked": "–", "not-reached": "·" };

function element(tag, name, ...content) {
  const made = document.createElement(tag);
  made.className = name;
  made.append(...content);
  return made;
}

/** Text that may be broken after a slash, as identities and paths are. */
function breakable(text) {
  const parts = text.split(/(?<=[^/]\/)(?=[^/])/);
  return parts.flatMap((part) => [part, document.createElement("wbr")]).slice(0, -1);
}

const state = (hop) => (hop.allowed ? "passed" : "failed");

function check({ name, result, seen }) {
  const words = result.replace("-", " ");
  const lines = seen.map((text) => element("span", "", ...breakable(text)));
  const item = element(
    "li", "",
    element("span", "sign", SIGNS[result]),
    element("span", "name", NAMES[name], element("span", "result", words)),
    element("div", "seen", ...lines),
  );
  item.dataset.result = result;
  item.dataset.check = name;
  return item;
}

const clock = (hop) => new Date(hop.time).toLocaleTimeString();

function call(hop) {
  const verdict = element("span", "verdict", hop.allowed ? "allowed" : "refused");
  const path = element("code", "", ...breakable(hop.path ?? "connection"));
  const line = element("p", "call", path, element("time", "", clock(hop)), verdict);
  line.dataset.state = state(hop);
  return line;
}

const shown = new Map();

/** Show hops in a card, in place of what it showed before; what is the same is left alone. */
export function showHops(id, hops, otherwise) {
  const card = document.getElementById(id);
  const content = JSON.stringify(hops.map((hop) => ({ ...hop, time: null })));
  if (shown.get(id) !== content) {
    shown.set(id, content);
    const drawn = hops.flatMap((hop) => [call(hop), element("ol", "checks", ...hop.checks.map(check))]);
    const nothing = hops.length ? [] : [element("p", "note", otherwise)];
    card.replaceChildren(card.querySelector("h2"), ...drawn, ...nothing);
  }
  card.querySelectorAll("time").forEach((time, index) => { time.textContent = clock(hops[index]); });
}

/** Give a hop of the picture its colour and mark; without a state, none. */
export function mark(id, value) {
  const sign = document.querySelector(`.mark[data-of="${id}"]`);
  for (const part of [document.getElementById(id), sign]) {
    if (value) part.dataset.state = value;
    else delete part.dataset.state;
  }
  sign.querySelector("text").textContent = SIGNS[value] ?? "";
}

/** Who refused a request, and at which check. */
export function refusal(hops) {
  const index = hops.findIndex((hop) => !hop.allowed);
  if (index < 0) return "refused";
  const failed = hops[index].checks.find(({ result }) => result === "failed");
  return `refused by the ${index ? "internal" : "external"} API at: ${NAMES[failed.name].toLowerCase()}`;
}

export function markHop(id, hop) {
  mark(id, hop && state(hop));
}

export function showAnswer(status, text) {
  const answer = document.getElementById("answer");
  answer.dataset.state = status === 200 ? "passed" : "failed";
  answer.querySelector(".status").textContent = status;
  answer.querySelector(".what").textContent = text;
}
