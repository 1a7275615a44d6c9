"""A workload that would notice a loss: it runs in the guest, counts, and writes down every count.

Run as `python3 witness.py FOLDER PORT`. It puts itself into the background once it answers. Every
20 ms it adds one to a counter and a line "COUNT WALL_NS PADDING" to FOLDER/log, keeps a checksum of
all lines in memory, and changes a page of a large buffer in turn. Who connects to PORT and sends a
byte gets a line of JSON with the count, the checksum and the clock.
"""

# small, since it starts in a slow guest
# ruff: noqa: PTH103, PTH123, SIM115

import json
import os
import socket
import sys
import threading
import time
import zlib

PAGE = 4096
PAGES = 2048
INTERVAL_S = 0.02


class Witness:
    """The counter, its file and its memory."""

    def __init__(self, folder: str) -> None:
        os.makedirs(folder, exist_ok=True)
        self.count = 0
        self.checksum = 0
        self._file = open(folder + "/log", "xb", buffering=0)
        self._buffer = bytearray(os.urandom(PAGE) * PAGES)

    def step(self) -> None:
        """Count one further."""
        line = b"%d %d %s\n" % (self.count, time.time_ns(), b"." * 100)
        self._file.write(line)
        self._buffer[self.count % PAGES * PAGE] = self.count % 256
        self.count, self.checksum = self.count + 1, zlib.crc32(line, self.checksum)

    def answer(self, connection: socket.socket) -> None:
        """Tell one client, as often as it asks."""
        with connection:
            while connection.recv(1):
                now = time.time_ns()
                facts = {"count": self.count, "checksum": self.checksum, "wall_ns": now}
                connection.sendall(json.dumps({**facts, "pid": os.getpid()}).encode() + b"\n")

    def serve(self, listener: socket.socket) -> None:
        """Tell everyone."""
        while True:
            connection = listener.accept()[0]
            threading.Thread(target=self.answer, args=(connection,), daemon=True).start()


def main() -> None:
    """Get into the background and count."""
    listener = socket.create_server(("127.0.0.1", int(sys.argv[2])))
    if os.fork():
        os._exit(0)
    os.setsid()
    null = os.open("/dev/null", os.O_RDWR)
    for fd in range(3):
        os.dup2(null, fd)
    witness = Witness(sys.argv[1])
    threading.Thread(target=witness.serve, args=(listener,), daemon=True).start()
    while True:
        witness.step()
        time.sleep(INTERVAL_S)


if __name__ == "__main__":
    main()
