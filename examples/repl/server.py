"""A Python session over HTTP: POST a line or a program, get what it prints; names are kept."""

import argparse
import code
import contextlib
import io
import json
from http.server import BaseHTTPRequestHandler, HTTPServer

HOOKS = "/aws/lambda-microvms/runtime/v1"
session = code.InteractiveInterpreter({"__name__": "__session__"})


def run(source: str) -> dict[str, object]:
    """Run `source` and return what it prints, as an interactive Python would."""
    printed = io.StringIO()
    mode = "single" if "\n" not in source.strip() else "exec"
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        incomplete = session.runsource(source.strip(), symbol=mode)
    return {"output": printed.getvalue(), "incomplete": incomplete}


class Handler(BaseHTTPRequestHandler):
    """Answers /run, /names, and the hook that says when the snapshot may be taken."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Run a piece of Python."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        if self.path == "/run":
            self._answer(200, run(body))
        elif self.path == f"{HOOKS}/ready":
            self._answer(200, {})
        else:
            self._answer(404, {"error": "POST /run"})

    def do_GET(self) -> None:
        """Tell which names there are."""
        names = sorted(name for name in session.locals if not name.startswith("__"))
        self._answer(200 if self.path == "/names" else 404, {"names": names})

    def _answer(self, status: int, value: dict[str, object]) -> None:
        content = json.dumps(value).encode() + b"\n"
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8080)
    HTTPServer(("", parser.parse_args().port), Handler).serve_forever()
