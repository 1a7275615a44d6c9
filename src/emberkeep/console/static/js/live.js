// What happens on the node, as it happens: events as a stream, and a new look after each.

import { session, stream } from "./api.js";
import { announce, byId, text } from "./dom.js";
import { addEvent, lastSeen } from "./events.js";
import { showImages } from "./images.js";
import { showMicroVMs } from "./microvms.js";

const SILENT_MS = 40_000; // the server gives a sign of life every 15 s
const LEAST_MS = 500;
const MOST_MS = 15_000;

const TOLD = {
  running: "is running",
  suspended: "is suspended",
  resumed: "is running again",
  terminated: "is terminated",
  "vmm-died": "has died",
  "suspend-failed": "could not be suspended",
  "resume-failed": "could not be resumed",
  "build-failed": "could not be built",
  "version-active": "can be launched",
  "image-deleted": "is deleted",
};

/** Follow the node as long as the page is there. */
export async function follow() {
  let pause = LEAST_MS;
  while (session.there) {
    try {
      await listen(() => { pause = LEAST_MS; });
    } catch {
      // whatever it was, it is tried again
    }
    if (!session.there) return;
    say("bad", "reconnecting");
    await new Promise((done) => { setTimeout(done, pause * (0.5 + Math.random())); });
    pause = Math.min(pause * 2, MOST_MS);
  }
}

async function listen(opened) {
  const given = new AbortController();
  let silence = setTimeout(() => given.abort(), SILENT_MS);
  try {
    const reader = await stream(`/v1/events/stream?after=${lastSeen()}`, { signal: given.signal });
    opened();
    say("good", "live");
    await Promise.all([showMicroVMs(), showImages()]); // what happened while nobody listened
    const decoder = new TextDecoder();
    let rest = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      clearTimeout(silence);
      silence = setTimeout(() => given.abort(), SILENT_MS);
      const messages = (rest + decoder.decode(value, { stream: true })).split("\n\n");
      rest = messages.pop();
      messages.forEach(take);
    }
  } finally {
    clearTimeout(silence);
    given.abort();
  }
}

function take(message) {
  const line = message.split("\n").find((one) => one.startsWith("data: "));
  if (!line) return;
  const event = JSON.parse(line.slice(6));
  addEvent(event);
  if (TOLD[event.kind]) announce(`${event.name || event.image} ${TOLD[event.kind]}`);
  if (/^(snapshot|image|build|version)-/.test(event.kind)) showImages().catch(() => {});
  else showMicroVMs();
}

function say(state, words) {
  byId("link").dataset.state = state;
  text(byId("link-text"), words);
}
