"""The examples as their users have them: built, launched, asked through the endpoint."""

import ssl
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from emberkeep_sdk import Emberkeep, Hooks, MicroVM, Token

FOLDER: Final = Path(__file__).parents[2] / "examples"
_WAIT_S: Final = 120.0
_PROBE_S: Final = 15.0


@dataclass(frozen=True)
class Site:
    """A microVM's endpoint, with a token for it."""

    microvm: MicroVM
    token: Token
    trust: ssl.SSLContext

    @classmethod
    def of(cls, ek: Emberkeep, microvm: MicroVM) -> "Site":
        """Get a token for port 8080, and the authority to trust."""
        return cls(microvm, microvm.token(8080), ssl.create_default_context(cadata=ek.authority()))

    def ask(self, method: str, path: str, body: str | None = None) -> httpx.Response:
        """Send a request; the answer must be a success."""
        with httpx.Client(verify=self.trust, trust_env=False, timeout=_WAIT_S) as client:
            answer = client.request(
                method, self.microvm.url + path, content=body, headers=self.token.headers
            )
        assert answer.is_success, (answer.status_code, answer.text)
        return answer

    def get(self, path: str) -> Any:
        """Return the JSON at `path`."""
        return self.ask("GET", path).json()


@dataclass(frozen=True)
class Example:
    """An example: how it is built, what must be reachable for that, and what it must do."""

    name: str
    check: Callable[[Site], None]
    hooks: Hooks | None = None
    memory: int = 512
    needs: str | None = None

    def build(self, ek: Emberkeep, *, source: Path | None = None) -> str:
        """Build it and return what to launch."""
        return ek.images.build(
            source or FOLDER / self.name,
            name=self.name,
            memory=self.memory,
            hooks=self.hooks,
        ).ref

    def skip_unless_reachable(self) -> None:
        """Skip the test where the packages it is made from cannot be had."""
        if self.needs is None:
            return
        try:
            with urllib.request.urlopen(self.needs, timeout=_PROBE_S):  # noqa: S310  our own list
                return
        except OSError as failed:
            pytest.skip(f"{self.needs} cannot be reached: {failed}")


def flask(site: Site) -> None:
    """Six hooks, a session of its own, a counter that a suspend does not touch."""
    first = site.get("/")
    assert first["visits"] == 1, "validate ran in a copy that was thrown away"
    assert first["microvm"] == site.microvm.id
    assert len(first["session"]) == 16
    assert first["image"] == "flask"
    site.microvm.suspend()
    site.microvm.resume()
    again = site.get("/")
    assert again == {**first, "visits": 2}
    assert site.get("/hooks") == ["ready", "run", "suspend", "resume"]


def static(site: Site) -> None:
    """Files by one binary; there is nothing else in the image that could be run."""
    page = site.ask("GET", "/")
    assert "Served from a microVM" in page.text
    assert site.ask("GET", "/style.css").headers["content-type"].startswith("text/css")
    assert [one.command.split()[0] for one in site.microvm.processes()] == ["/httpd"]
    with pytest.raises(Exception, match="sh"):
        site.microvm.exec("echo there is a shell", check=True)


def repl(site: Site) -> None:
    """Names that are kept from request to request, and through a suspend."""
    site.ask("POST", "/run", "import math; x = 41")
    assert site.ask("POST", "/run", "x + 1").json()["output"] == "42\n"
    site.ask("POST", "/run", "def twice(n):\n    return 2 * n\n\nprint(twice(x))\n")
    site.microvm.suspend()  # and a request wakes it
    assert site.ask("POST", "/run", "twice(x)").json()["output"] == "82\n"
    assert {"x", "math", "twice"} <= set(site.get("/names")["names"])


def node(site: Site) -> None:
    """A list in memory, by a server that is not root."""
    assert site.ask("POST", "/", "remember").json() == {"count": 1}
    told = site.get("/")
    assert told["notes"] == ["remember"]
    assert told["node"].startswith("v")
    assert [one.user for one in site.microvm.processes()] == ["nobody"]


_DEBIAN: Final = "http://deb.debian.org/debian/dists/bookworm/Release"
_ALL: Final = Hooks(
    port=8080, ready=120, validate=60, run=20, resume=20, suspend=20, terminate=20
)  # where everything is emulated, and others are at work
FLASK: Final = Example("flask", flask, _ALL, 1024, "https://pypi.org/simple/flask/")
STATIC: Final = Example("static", static, needs=_DEBIAN)
REPL: Final = Example("repl", repl, Hooks(port=8080, ready=120))
NODE: Final = Example("node", node, Hooks(port=8080, ready=120, validate=60), 1024, _DEBIAN)
