// A shell in a microVM: xterm.js at this end, exec with a PTY over our WebSocket at the other.

import { FitAddon } from "../vendor/xterm/addon-fit.mjs";
import { Terminal } from "../vendor/xterm/xterm.mjs";
import { byId, text } from "./dom.js";
import { Shell } from "./shell.js";
import "./strict.js";

const dark = matchMedia("(prefers-color-scheme: dark)");
const THEMES = {
  dark: { background: "#171311", foreground: "#ebe4dd", cursor: "#fb923c", selectionBackground: "#5c4030" },
  light: {
    background: "#fffdfa", foreground: "#2a211c", cursor: "#c2410c", selectionBackground: "#f5d9bf",
    black: "#2a211c", red: "#b42318", green: "#1a7f37", yellow: "#8a6100", blue: "#1d4ed8", magenta: "#8b2fa0",
    cyan: "#0e7490", white: "#6b625b", brightBlack: "#7a7068", brightRed: "#c9372c", brightGreen: "#23863f",
    brightYellow: "#946800", brightBlue: "#2563eb", brightMagenta: "#9d3fb3", brightCyan: "#0b7285",
    brightWhite: "#57504a",
  },
};

let current = null; // { vm, from, terminal, fit, shell, watch }

/** Make the section ready. */
export function prepareTerminal() {
  byId("terminal-close").addEventListener("click", () => close(true));
  byId("terminal-again").addEventListener("click", () => openTerminal(current.vm, current.from));
  byId("reader").checked = localStorage.getItem("emberkeep.reader") === "yes";
  byId("reader").addEventListener("change", readerChosen);
  dark.addEventListener("change", () => { if (current) current.terminal.options.theme = theme(); });
  addEventListener("pagehide", () => close(false));
}

/** Open a shell in `vm`; `from` is the button that gets the focus back. */
export function openTerminal(vm, from) {
  close(false);
  const place = byId("screen");
  byId("terminal").hidden = false;
  byId("terminal-again").hidden = true;
  text(byId("terminal-title"), `Terminal: ${vm.name}`);
  const terminal = new Terminal({
    fontFamily: "ui-monospace, 'Cascadia Mono', 'DejaVu Sans Mono', Menlo, Consolas, monospace",
    fontSize: 14,
    scrollback: 5000,
    cursorBlink: !matchMedia("(prefers-reduced-motion: reduce)").matches,
    minimumContrastRatio: 4.5,
    screenReaderMode: byId("reader").checked,
    theme: theme(),
  });
  const fit = new FitAddon();
  terminal.loadAddon(fit);
  terminal.open(place);
  fit.fit();
  terminal.attachCustomKeyEventHandler(left);
  current = { vm, from, terminal, fit, shell: begun(vm, terminal), watch: watched(fit, place) };
  byId("terminal").scrollIntoView({ block: "nearest" });
  terminal.focus();
}

function begun(vm, terminal) {
  say("connecting");
  const shell = new Shell(vm.id, { rows: terminal.rows, cols: terminal.cols }, {
    started: () => say("connected"),
    output: (bytes, taken) => terminal.write(bytes, taken),
    ended: (words) => {
      say(words);
      terminal.write(`\r\n\x1b[2m[${words}]\x1b[0m\r\n`);
      byId("terminal-again").hidden = current?.shell !== shell;
    },
  });
  const encoder = new TextEncoder();
  terminal.onData((typed) => shell.type(encoder.encode(typed)));
  terminal.onBinary((typed) => shell.type(Uint8Array.from(typed, (one) => one.charCodeAt(0))));
  terminal.onResize((size) => shell.resize(size));
  return shell;
}

function close(back) {
  if (!current) return;
  const { from, terminal, shell, watch } = current;
  current = null;
  watch.disconnect();
  shell.close();
  terminal.dispose();
  byId("screen").replaceChildren();
  byId("terminal").hidden = true;
  if (!back) return;
  if (from.isConnected && !from.hidden) from.focus();
  else byId("microvms").focus();
}

/** Shift and Escape leave the terminal for those who have only a keyboard. */
function left(event) {
  if (event.key !== "Escape" || !event.shiftKey) return true;
  if (event.type === "keydown") byId("terminal-close").focus();
  return false;
}

function watched(fit, place) {
  const watch = new ResizeObserver(() => fit.fit());
  watch.observe(place);
  return watch;
}

function readerChosen(event) {
  localStorage.setItem("emberkeep.reader", event.target.checked ? "yes" : "no");
  if (current) current.terminal.options.screenReaderMode = event.target.checked;
}

const theme = () => (dark.matches ? THEMES.dark : THEMES.light);
const say = (words) => text(byId("terminal-state"), words);
