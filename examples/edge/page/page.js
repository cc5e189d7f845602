// SPDX-License-Identifier: Apache-2.0
// A person's requests, and what came of them.

import { logIn, observe, others, tampered } from "./requests.js";
import { mark, markHop, refusal, showAnswer, showHops } from "./view.js";

const REFRESH_MILLISECONDS = 2000;
const ORDER = { alice: "A1", bob: "B1" };
const buttons = document.querySelectorAll("button");
let user = "";
let token = null;

const me = () => user || "alice";
const other = () => (me() === "alice" ? "bob" : "alice");
const orders = (owner) => `/users/${owner}/orders`;
const own = () => orders(me());

/** What each button sends: a path, and a token or none. */
const ASKED = {
  "own-orders": async () => [own(), token],
  "own-order": async () => [`/orders/${ORDER[me()]}`, token],
  "other-orders": async () => [orders(other()), token],
  "other-order": async () => [`/orders/${ORDER[other()]}`, token],
  anonymous: async () => [own(), null],
  tampered: async () => [orders(other()), tampered(await logIn(me()), other())],
  expired: async () => [own(), await logIn(me(), "expired")],
  audience: async () => [own(), await logIn(me(), "audience")],
  issuer: async () => [own(), await logIn(me(), "issuer")],
  key: async () => [own(), await logIn(me(), "key")],
};

function press(pressed, group) {
  for (const each of document.querySelectorAll(group)) {
    each.setAttribute("aria-pressed", each === pressed);
  }
}

async function become(button) {
  user = button.dataset.user;
  token = user ? await logIn(user) : null;
  document.getElementById("you").textContent = user || "nobody";
  document.getElementById("token").textContent = user ? `with a token of ${user}` : "without a token";
  press(button, "[data-user]");
}

async function ask(button) {
  press(button, "[data-ask]");
  mark("browser-external", "busy");
  mark("external-internal", null);
  const [path, shown] = await ASKED[button.dataset.ask]();
  const { status, body, hops } = await observe(path, shown);
  const [first, second] = hops;
  showAnswer(status, `GET ${path}: ${status === 200 ? list(body) : refusal(hops)}`);
  showHops("first", hops.slice(0, 1), "the audit log has nothing");
  showHops("second", hops.slice(1), "not called: the external API refused the request");
  markHop("browser-external", first);
  markHop("external-internal", second);
}

function list({ orders: found }) {
  return Object.entries(found).map(([name, item]) => `${name} ${item}`).join("; ");
}

async function refresh() {
  const { app, partner, courier } = await others();
  showHops("app", app.slice(0, 1), "no calls yet");
  showHops("partner", partner, "no calls yet");
  showHops("courier", courier, "no calls yet");
  markHop("app-external", app[0]);
  markHop("partner-internal", partner[0]);
  markHop("courier-internal", courier[0]);
}

/** One thing at a time, so that what is shown belongs to what was asked. */
async function alone(work, button) {
  for (const each of buttons) each.disabled = true;
  try {
    await work(button);
  } catch (error) {
    showAnswer("–", `The external API does not answer: ${error.message}`);
    mark("browser-external", "failed");
  }
  for (const each of buttons) each.disabled = false;
  button.focus();
}

async function follow() {
  await refresh().catch(() => {});
  setTimeout(follow, REFRESH_MILLISECONDS);
}

for (const button of buttons) {
  const work = "user" in button.dataset ? become : ask;
  button.addEventListener("click", () => alone(work, button));
}
follow();
