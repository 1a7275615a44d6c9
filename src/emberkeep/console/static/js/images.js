// The images there are, and the sizes that start at once.

import { ask } from "./api.js";
import { byId, h } from "./dom.js";

let known = [];

/** Return the images as last seen. */
export const images = () => known;

/** Return the sizes that `image` has a snapshot of, such as "512m-1c". */
export const sizes = (image) => Object.keys(image?.snapshots ?? {});

/** Look anew. */
export async function showImages() {
  known = (await ask("/v1/images")).images;
  byId("no-images").hidden = known.length > 0;
  byId("images").replaceChildren(...known.map(shown));
}

function shown(image) {
  const ready = sizes(image).map((size) => h("li", { className: "chip", textContent: readable(size) }));
  return h("li", {},
    h("strong", { textContent: image.name }),
    h("code", { className: "digest", title: image.digest, textContent: image.digest.slice(0, 12) }),
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
