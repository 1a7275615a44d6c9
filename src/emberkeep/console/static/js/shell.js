// Our exec over a WebSocket (docs/api.md): messages with a byte of channel, paced both ways.

import { socket } from "./api.js";

const CONTROL = 0;
const TO_GUEST = 1;
const PIECE = 16 * 1024;
const UNTAKEN = 256 * 1024; // what we may send before the server says that the guest has it
const WINDOW = 1024 * 1024; // what the server may send before we say that it is shown
const REPORTED = 64 * 1024;
const LINE = 'export LANG="${LANG:-C.UTF-8}"; command -v bash >/dev/null 2>&1 && exec bash -l; exec sh -l';

/** One shell in a microVM; `told` are the functions started, output and ended. */
export class Shell {
  #socket;
  #told;
  #waiting = []; // pieces that are still to be sent
  #sent = 0;
  #taken = 0;
  #shown = 0;
  #reported = 0;
  #started = false;
  #over = false;

  constructor(id, size, told) {
    this.#told = told;
    this.#socket = socket(`/v1/microvms/${encodeURIComponent(id)}/exec`);
    this.#socket.onopen = () => this.#control({
      argv: ["/bin/sh", "-c", LINE],
      env: { TERM: "xterm-256color", COLORTERM: "truecolor" },
      tty: size,
      window: WINDOW,
    });
    this.#socket.onmessage = ({ data }) => this.#take(new Uint8Array(data));
    this.#socket.onclose = () => this.#end("the connection was lost");
  }

  /** Send what was typed or pasted, as fast as the guest takes it. */
  type(bytes) {
    for (let at = 0; at < bytes.length; at += PIECE) this.#waiting.push(bytes.subarray(at, at + PIECE));
    this.#send();
  }

  /** Say how large the terminal is now. */
  resize({ rows, cols }) {
    if (this.#started) this.#control({ resize: [rows, cols] });
  }

  /** Leave; what runs in the terminal is ended. */
  close() {
    this.#over = true;
    this.#socket.close();
  }

  #send() {
    if (!this.#started || this.#socket.readyState !== WebSocket.OPEN) return;
    while (this.#waiting.length && this.#sent - this.#taken + this.#waiting[0].length <= UNTAKEN) {
      const piece = this.#waiting.shift();
      this.#sent += piece.length;
      this.#message(TO_GUEST, piece);
    }
  }

  #take(message) {
    const payload = message.subarray(1);
    if (message[0] === CONTROL) return this.#heard(JSON.parse(new TextDecoder().decode(payload)));
    return this.#told.output(payload, () => this.#report(payload.length));
  }

  #heard(said) {
    if (said.started) {
      this.#started = true;
      this.#told.started();
      this.#send();
    }
    if (said.taken !== undefined) {
      this.#taken = said.taken;
      this.#send();
    }
    if (said.error) this.#end([said.error.message, said.error.hint].filter(Boolean).join(": "));
    if (said.exit) this.#end(ending(said.exit));
  }

  #report(length) {
    this.#shown += length;
    if (this.#over || this.#shown - this.#reported < REPORTED) return;
    this.#reported = this.#shown;
    this.#control({ taken: this.#shown });
  }

  #end(words) {
    if (this.#over) return;
    this.#over = true;
    this.#told.ended(words);
  }

  #control(value) {
    this.#message(CONTROL, new TextEncoder().encode(JSON.stringify(value)));
  }

  #message(channel, payload) {
    if (this.#socket.readyState !== WebSocket.OPEN) return;
    const message = new Uint8Array(payload.length + 1);
    message[0] = channel;
    message.set(payload, 1);
    this.#socket.send(message);
  }
}

function ending({ code, signal }) {
  if (signal !== null && signal !== undefined) return `the shell was ended by signal ${signal}`;
  return `the shell has ended with status ${code}`;
}
