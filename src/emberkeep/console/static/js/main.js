// The begin: a session first, then the page.

import { ask, login, logout, session } from "./api.js";
import { byId } from "./dom.js";
import { showEvents } from "./events.js";
import { showImages } from "./images.js";
import { prepareLaunch } from "./launch.js";
import { follow } from "./live.js";
import { fail } from "./notices.js";
import { showMicroVMs } from "./microvms.js";
import { prepareTerminal } from "./terminal.js";

session.ended(() => location.reload());
byId("login-form").addEventListener("submit", byKey);
byId("logout").addEventListener("click", async () => {
  await logout().catch(() => {});
  location.reload();
});
await begin();

async function begin() {
  const code = new URLSearchParams(location.hash.slice(1)).get("code");
  if (code) {
    history.replaceState(null, "", location.pathname);
    try {
      await login({ code });
    } catch (refusal) {
      if (!session.there) return askForKey(`The link does not let in: ${refusal.message}.`);
    }
  }
  if (!session.there) return askForKey();
  await open();
}

function askForKey(why) {
  if (why) byId("login-why").textContent = why;
  byId("login").hidden = false;
  byId("key").focus();
}

async function byKey(event) {
  event.preventDefault();
  const [field, wrong] = [byId("key"), byId("login-error")];
  wrong.hidden = true;
  try {
    await login({ key: field.value.trim() });
  } catch (refusal) {
    wrong.textContent = refusal.status ? `${refusal.message}.` : "The server does not answer.";
    wrong.hidden = false;
    field.setAttribute("aria-invalid", "true");
    field.select();
    return;
  }
  field.value = "";
  byId("login").hidden = true;
  await open();
  byId("microvms").focus();
}

async function open() {
  let status;
  try {
    status = await ask("/v1/status");
  } catch (refusal) {
    if (!session.there) return; // it has ended: the page is loaded anew
    fail("The server does not answer", refusal);
  }
  byId("version").textContent = status ? `v${status.version}` : "";
  byId("app").hidden = false;
  prepareTerminal();
  await prepareLaunch();
  await Promise.all([showMicroVMs(), showImages(), showEvents()]);
  follow();
}
