// SPDX-License-Identifier: Apache-2.0
// What the page asks the external API: tokens, orders, and what was checked on the way.

async function json(path, options = {}) {
  const answer = await fetch(path, { cache: "no-store", ...options });
  return { status: answer.status, body: await answer.json().catch(() => ({})) };
}

export async function logIn(user, fault = null) {
  const asked = { user, client: "browser", fault };
  const { body } = await json("/login", { method: "POST", body: JSON.stringify(asked) });
  return body.access_token;
}

/** The same token with another user in it, under the old signature. */
export function tampered(token, user) {
  const [head, body, signature] = token.split(".");
  const claims = JSON.parse(atob(body.replaceAll("-", "+").replaceAll("_", "/")));
  const changed = btoa(JSON.stringify({ ...claims, sub: user }));
  const encoded = changed.replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
  return [head, encoded, signature].join(".");
}

/** Send a request, and look at what each hop checked of it. */
export async function observe(path, token) {
  const { body: { mark } } = await json("/checks/mark");
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const answer = await json(path, { headers });
  const query = new URLSearchParams({ path, mark });
  const { body: { hops } } = await json(`/checks?${query}`);
  return { ...answer, hops };
}

export async function others() {
  return (await json("/checks/others")).body;
}
