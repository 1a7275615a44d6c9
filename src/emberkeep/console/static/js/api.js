// Requests to the server, with the session that lets us in.

const KEPT = "emberkeep.session";

/** What the server refused; `code` is a name to decide by. */
export class Refusal extends Error {
  constructor(status, { code = "", message = "", hint = "" } = {}) {
    super(message || `the server answered ${status}`);
    this.status = status;
    this.code = code;
    this.hint = hint;
  }
}

const LOST = {
  message: "the connection to the server was lost.",
  hint: "What was asked for may have been done: the list shows it.",
};

let token = sessionStorage.getItem(KEPT);
let onEnd = () => {};

export const session = {
  get there() { return token !== null; },
  keep(given) {
    token = given;
    sessionStorage.setItem(KEPT, given);
  },
  forget() {
    token = null;
    sessionStorage.removeItem(KEPT);
  },
  /** Call `act` when the server does not know the session any more. */
  ended(act) { onEnd = act; },
};

/** Begin a session with `{key}` or `{code}`. */
export async function login(proof) {
  const answer = await ask("/console/session", { method: "POST", body: proof, open: true, repeat: true });
  session.keep(answer.token);
}

/** End the session, here and at the server. */
export async function logout() {
  try {
    await ask("/console/session", { method: "DELETE", open: true });
  } finally {
    session.forget();
  }
}

/**
 * Ask for JSON; raise `Refusal` for what is no success. What may be asked twice is asked again when
 * the connection is lost: browsers lose some when the host's network interfaces change.
 */
export async function ask(path, { method = "GET", body, open = false, repeat = method !== "POST" } = {}) {
  for (let left = repeat ? 4 : 0; ; left -= 1) {
    try {
      const answer = await request(path, { method, body });
      if (answer.ok) return answer.status === 204 ? null : await answer.json();
      throw await refused(answer, open);
    } catch (error) {
      if (error instanceof Refusal) throw error;
      if (left === 0) throw new Refusal(0, LOST);
      await new Promise((done) => { setTimeout(done, 400); });
    }
  }
}

/** Ask for a stream; return its reader. */
export async function stream(path, { signal, headers = {} } = {}) {
  const answer = await request(path, { signal, headers });
  if (!answer.ok) throw await refused(answer, false);
  return answer.body.getReader();
}

/** Open a WebSocket; a page can give it no header, so the session is one of its subprotocols. */
export function socket(path) {
  const url = new URL(path, location.href);
  url.protocol = url.protocol.replace("http", "ws");
  const made = new WebSocket(url, ["emberkeep.v1", `emberkeep.bearer.${token}`]);
  made.binaryType = "arraybuffer";
  return made;
}

function request(path, { method, body, signal, headers = {} }) {
  const all = { ...headers };
  if (token !== null) all.Authorization = `Bearer ${token}`;
  if (body !== undefined) all["Content-Type"] = "application/json";
  return fetch(path, {
    method,
    signal,
    headers: all,
    body: body === undefined ? undefined : JSON.stringify(body),
    credentials: "omit",
    cache: "no-store",
    redirect: "error",
    referrerPolicy: "no-referrer",
  });
}

async function refused(answer, open) {
  let said = {};
  try {
    said = (await answer.json()).error ?? {};
  } catch {
    // not JSON: the status has to do
  }
  if (answer.status === 401 && !open) {
    session.forget();
    onEnd();
  }
  return new Refusal(answer.status, said);
}
