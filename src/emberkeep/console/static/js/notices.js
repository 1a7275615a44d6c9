// What has to be said beside the lists: things under way, and things that went wrong.

import { byId, h } from "./dom.js";

/** Say that something takes time; return what ends the notice. */
export function busy(words) {
  const notice = h("div", { className: "notice", attrs: { role: "status" } },
    h("span", { className: "spin", attrs: { "aria-hidden": "true" } }), words);
  byId("notices").append(notice);
  return () => notice.remove();
}

/** Say that something went wrong, until the reader has seen it. */
export function fail(what, refusal) {
  const away = h("button", { type: "button", className: "quiet", textContent: "Dismiss" });
  const notice = h("div", { className: "notice bad", attrs: { role: "alert" } },
    h("p", {}, h("strong", { textContent: `${what}: ` }), refusal.message,
      refusal.hint ? h("span", { className: "hint", textContent: ` ${refusal.hint}` }) : null),
    away);
  away.addEventListener("click", () => notice.remove());
  byId("notices").append(notice);
  while (byId("notices").children.length > 5) byId("notices").firstElementChild.remove();
}
