// The images there are: bases with the sizes that start at once, and what was built, with its state.

import { ask } from "./api.js";
import { byId, h } from "./dom.js";

let known = [];

/** Return the images as last seen. */
export const images = () => known;

/** Return the images that a microVM can be launched from. */
export const launchable = () => known.filter((one) => one.kind !== "built" || one.latest_active);

/** Return the sizes that `image` has a snapshot of, such as "512m-1c". */
export const sizes = (image) => Object.keys(image?.snapshots ?? {});

/** Look anew. */
export async function showImages() {
  known = (await ask("/v1/images")).images;
  byId("no-images").hidden = known.length > 0;
  byId("images").replaceChildren(...known.map(shown));
}

const STATES = {
  CREATING: "building",
  CREATED: "ready",
  CREATE_FAILED: "failed",
  UPDATING: "building a new version",
  UPDATED: "ready",
  UPDATE_FAILED: "the last build failed",
  DELETING: "being deleted",
  DELETED: "deleted",
  DELETE_FAILED: "could not be deleted",
};

const shown = (image) => (image.kind === "built" ? built(image) : base(image));

function built(image) {
  const { name, state, versions, latest_active: active, latest_failed: failed } = image;
  const words = [
    `${versions} version${versions === 1 ? "" : "s"}`,
    active ? `${active} is active` : "none is active",
    failed && failed > (active ?? 0) ? `${failed} failed` : "",
  ];
  return h("li", { data: { name } },
    h("strong", { textContent: name }),
    h("span", { className: "state", data: { state }, textContent: STATES[state] ?? state }),
    h("p", { className: "hint", textContent: words.filter(Boolean).join(", ") }));
}

function base(image) {
  const ready = sizes(image).map((size) => h("li", { className: "chip", textContent: readable(size) }));
  return h("li", { data: { name: image.name } },
    h("strong", { textContent: image.name }),
    h("code", { className: "digest", title: image.digest, textContent: (image.digest ?? "").slice(0, 12) }),
    ready.length
      ? h("ul", { className: "chips", attrs: { "aria-label": "sizes that start at once" } }, ...ready)
      : h("p", { className: "hint", textContent: "Its first launch takes the snapshot." }));
}

/** Return "512m-1c" for people. */
export function readable(size) {
  const found = /^(\d+)m-(\d+)c$/.exec(size);
  return found ? `${memory(Number(found[1]))} · ${found[2]} vCPU` : size;
}

/** Return a number of MiB for people. */
export const memory = (mib) => (mib % 1024 === 0 ? `${mib / 1024} GiB` : `${mib} MiB`);
