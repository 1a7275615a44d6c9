// A new microVM: what it is made of, asked for in a dialog.

import { ask } from "./api.js";
import { byId, h, text } from "./dom.js";
import { images, launchable, showImages, sizes } from "./images.js";
import { showMicroVMs } from "./microvms.js";
import { busy, fail } from "./notices.js";

/** Make the dialog ready; what this server cannot do is not offered. */
export async function prepareLaunch() {
  byId("launch").addEventListener("click", open);
  byId("launch-cancel").addEventListener("click", () => byId("launch-dialog").close());
  byId("launch-form").addEventListener("submit", submitted);
  byId("launch-form").addEventListener("input", changed);
  try {
    const described = await ask("/openapi.json");
    const launch = described.components?.schemas?.Launch?.properties ?? {};
    byId("launch-egress").hidden = !("egress" in launch);
  } catch {
    // without the description the least is offered
  }
}

async function open() {
  try {
    await showImages();
  } catch (refusal) {
    fail("The images cannot be listed", refusal);
  }
  const choice = byId("launch-image");
  const before = choice.value;
  choice.replaceChildren(...launchable().map(({ name }) => h("option", { value: name, textContent: name })));
  if (images().some(({ name }) => name === before)) choice.value = before;
  byId("launch-name").value = "";
  changed();
  byId("launch-dialog").showModal();
}

function changed() {
  const image = images().find(({ name }) => name === byId("launch-image").value);
  const own = image?.kind === "built"; // its versions say how large it is
  for (const name of ["launch-memory", "launch-vcpus"]) byId(name).disabled = own;
  const size = `${byId("launch-memory").value}m-${byId("launch-vcpus").value}c`;
  text(byId("launch-size-hint"), !image ? "" : own ? "As large as the image says." : sizes(image).includes(size)
    ? "There is a snapshot of this size: it starts at once."
    : "The first launch in this size takes a snapshot: some seconds more, once.");
  const form = byId("launch-form");
  const list = byId("launch-allow");
  list.disabled = form.elements.egress.value !== "allow";
  list.required = !list.disabled;
}

async function submitted(event) {
  event.preventDefault();
  byId("launch-dialog").close();
  const body = wanted(new FormData(byId("launch-form")));
  const over = busy(`Launching ${body.name ?? `a microVM from ${body.image}`} …`);
  try {
    await ask("/v1/microvms", { method: "POST", body });
  } catch (refusal) {
    fail("It could not be launched", refusal);
  } finally {
    over();
    showMicroVMs().catch(() => {});
  }
}

function wanted(given) {
  const body = { image: given.get("image") };
  if (given.get("memory")) body.memory_mib = Number(given.get("memory")); // not of an image's own size
  if (given.get("vcpus")) body.vcpus = Number(given.get("vcpus"));
  if (given.get("name")) body.name = given.get("name");
  const egress = given.get("egress");
  if (egress === "allow") body.egress = { allow: (given.get("allow") ?? "").split(/[\s,]+/).filter(Boolean) };
  else if (egress) body.egress = egress;
  return body;
}
