// The microVMs there are: a row each, changed in place so that the focus stays where it is.

import { ask } from "./api.js";
import { confirmed } from "./confirm.js";
import { byId, h, text } from "./dom.js";
import { memory } from "./images.js";
import { fail } from "./notices.js";
import { openTerminal } from "./terminal.js";

const STATES = {
  PENDING: "starting",
  RUNNING: "running",
  SUSPENDING: "suspending",
  SUSPENDED: "suspended",
  TERMINATING: "ending",
  TERMINATED: "ended",
};
const ACTS = [
  { act: "terminal", label: "Terminal", when: ["RUNNING"] },
  { act: "suspend", label: "Suspend", when: ["RUNNING"] },
  { act: "resume", label: "Resume", when: ["SUSPENDED"] },
  { act: "terminate", label: "Terminate", when: ["PENDING", "RUNNING", "SUSPENDING", "SUSPENDED"], danger: true },
];

const rows = new Map(); // by id
let looking = null;
let again = false;

byId("ended").addEventListener("change", () => showMicroVMs());
setInterval(() => rows.forEach(aged), 10_000);

/** Look anew; what is asked for meanwhile is one more look afterwards. */
export function showMicroVMs() {
  again = true;
  looking ??= (async () => {
    try {
      while (again) {
        again = false;
        await look();
      }
    } finally {
      looking = null;
    }
  })();
  return looking;
}

async function look() {
  const all = byId("ended").checked ? "?all=true" : "";
  const { microvms } = await ask(`/v1/microvms${all}`);
  const there = new Set(microvms.map((vm) => vm.id));
  for (const [id, row] of rows) {
    if (there.has(id)) continue;
    moveFocusFrom(row.element);
    row.element.remove();
    rows.delete(id);
  }
  const body = byId("vms");
  for (const vm of microvms) {
    if (!rows.has(vm.id)) rows.set(vm.id, made(vm));
    const row = rows.get(vm.id);
    shown(row, vm);
    if (!row.element.isConnected) body.prepend(row.element); // the newest on top
  }
  const live = microvms.filter((vm) => vm.state !== "TERMINATED").length;
  text(byId("count"), live ? String(live) : "");
  byId("no-vms").hidden = rows.size > 0;
  body.closest("table").hidden = rows.size === 0;
}

function made(vm) {
  const cells = {
    name: h("strong"),
    below: h("span", { className: "below", textContent: vm.id.slice(0, 16), title: vm.id }),
    endpoint: h("span", { className: "below", hidden: true }),
    state: h("span", { className: "state" }),
    reason: h("span", { className: "below" }),
    image: h("td", { data: { label: "Image" } }),
    size: h("td", { data: { label: "Size" } }),
    age: h("td", { data: { label: "Age" } }),
    acts: h("td", { className: "acts" }),
  };
  const element = h("tr", { data: { id: vm.id } },
    h("th", { scope: "row" }, cells.name, cells.below, cells.endpoint),
    h("td", { data: { label: "State" } }, cells.state, cells.reason),
    cells.image, cells.size, cells.age, cells.acts);
  const row = { element, cells, vm, busy: false, buttons: new Map() };
  for (const one of ACTS) {
    const button = h("button", { type: "button", textContent: one.label, className: one.danger ? "risky" : "" });
    button.addEventListener("click", () => acted(row, one.act));
    row.buttons.set(one.act, button);
    cells.acts.append(button);
  }
  return row;
}

function shown(row, vm) {
  row.vm = vm;
  const { cells, element } = row;
  element.dataset.state = vm.state;
  text(cells.name, vm.name);
  text(cells.state, STATES[vm.state] ?? vm.state);
  cells.state.dataset.state = vm.state;
  text(cells.reason, vm.state_reason === "Success." ? "" : vm.state_reason ?? "");
  text(cells.image, vm.image);
  text(cells.size, `${memory(vm.memory_mib)} · ${vm.vcpus} vCPU`);
  cells.endpoint.hidden = !vm.endpoint;
  text(cells.endpoint, vm.endpoint ?? "");
  aged(row);
  usable(row);
}

function usable(row) {
  const held = document.activeElement;
  for (const { act, label, when } of ACTS) {
    const button = row.buttons.get(act);
    button.setAttribute("aria-label", `${label} ${row.vm.name}`);
    button.disabled = row.busy;
    button.hidden = !when.includes(row.vm.state);
  }
  // a button that went away under the focus hands it to the one that took its place
  if (held && row.element.contains(held) && held.hidden) {
    [...row.buttons.values()].find((button) => !button.hidden)?.focus();
  }
}

function aged(row) {
  const s = Math.max(0, Math.floor(Date.now() / 1000 - row.vm.created_at));
  const words = s < 60 ? `${s} s` : s < 3600 ? `${Math.floor(s / 60)} min`
    : s < 172_800 ? `${Math.floor(s / 3600)} h` : `${Math.floor(s / 86_400)} d`;
  text(row.cells.age, words);
}

async function acted(row, act) {
  const { id, name } = row.vm;
  if (act === "terminal") return openTerminal(row.vm, row.buttons.get("terminal"));
  if (act === "terminate") {
    const sure = await confirmed({
      title: `Terminate ${name}?`,
      text: "Everything in it is lost: its memory, its disk and its processes.",
      yes: "Terminate",
    });
    if (!sure) return undefined;
  }
  row.busy = true;
  const path = `/v1/microvms/${encodeURIComponent(id)}`;
  element(row).setAttribute("aria-busy", "true");
  usable(row);
  try {
    await (act === "terminate" ? ask(path, { method: "DELETE" }) : ask(`${path}/${act}`, { method: "POST", repeat: true }));
  } catch (refusal) {
    fail(`${name} could not be ${act === "terminate" ? "terminated" : `${act}${act.endsWith("e") ? "d" : "ed"}`}`, refusal);
  } finally {
    row.busy = false;
    element(row).removeAttribute("aria-busy");
    await showMicroVMs().catch(() => {});
    usable(row);
  }
  return undefined;
}

const element = (row) => row.element;

function moveFocusFrom(gone) {
  if (gone.contains(document.activeElement)) byId("microvms").focus();
}
