"""A real browser: headless Chromium through its DevTools protocol, used as a person would."""

import base64
import json
import os
import shutil
import subprocess  # noqa: TID251  the browser
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from websockets.sync.client import ClientConnection, connect

_NAMES: Final = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_UP_S: Final = 120.0
_ANSWER_S: Final = 120.0
_KEYS: Final = {"Enter": ("\r", 13), "Tab": ("", 9), "Escape": ("", 27), "Backspace": ("", 8)}
_MODIFIERS: Final = {"alt": 1, "ctrl": 2, "meta": 4, "shift": 8}


def chromium() -> str | None:
    """Return the browser of this machine, if it has one."""
    return next(filter(None, map(shutil.which, _NAMES)), None)


class Navigated(Exception):
    """The page that was asked has gone."""


class Page:
    """One page: what it shows, and what a person does to it."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._number = 0
        self.complaints: list[str] = []  # exceptions, errors, breaches of the policy
        for domain in ("Page", "Runtime", "Log", "Audits", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: object) -> Any:
        """Carry out one command of the protocol."""
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": params}))
        while True:
            said = json.loads(self._socket.recv(timeout=_ANSWER_S))
            if said.get("id") != self._number:
                self._note(said)
                continue
            if "navigated" in said.get("error", {}).get("message", ""):
                raise Navigated
            assert "error" not in said, f"{method}: {said['error']}"
            return said["result"]

    def open(self, url: str) -> None:
        """Go to `url`."""
        self.call("Page.navigate", url=url)
        self.until("document.readyState === 'complete'")

    def says(self, script: str) -> Any:
        """Return the value of `script` in the page."""
        done = self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in done, f"{script}: {done['exceptionDetails']}"
        return done["result"].get("value")

    def until(self, script: str, *, within: float = 60.0) -> None:
        """Wait in the page until `script` is true."""
        wait = f"""new Promise((done) => {{
            const until = performance.now() + {within * 1000};
            const look = () => {{
                let there = false;
                try {{ there = Boolean({script}); }} catch {{}}
                if (there || performance.now() > until) done(there); else setTimeout(look, 50);
            }};
            look();
        }})"""
        try:
            there = self.says(wait)
        except Navigated:  # it is another page now: look at that
            self.until(script, within=within)
            return
        shown = self.says("document.body.innerText")
        assert there, f"not within {within:.0f} s: {script}\n{shown}\n{self.complaints}"

    def click(self, selector: str) -> None:
        """Press the element where it is seen; it must not be covered."""
        self.until(f"document.querySelector({selector!r})?.getClientRects().length > 0")
        at = self.says(
            f"""(async () => {{
                const element = document.querySelector({selector!r});
                element.scrollIntoView({{ block: "center", behavior: "instant" }});
                await new Promise((drawn) => requestAnimationFrame(() => setTimeout(drawn)));
                const box = element.getBoundingClientRect();
                const [x, y] = [box.x + box.width / 2, box.y + box.height / 2];
                const top = document.elementFromPoint(x, y);
                return {{ x, y, free: element === top || element.contains(top) }};
            }})()"""
        )
        assert at["free"], f"{selector} is covered"
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=at["x"], y=at["y"], button="left",
                      clickCount=1)  # fmt: skip

    def type(self, words: str) -> None:
        """Type `words` where the focus is, a key at a time."""
        for char in words:
            self.call("Input.dispatchKeyEvent", type="keyDown", text=char, key=char)
            self.call("Input.dispatchKeyEvent", type="keyUp", key=char)

    def press(self, key: str, *modifiers: str) -> None:
        """Press one key by its name."""
        text, code = _KEYS.get(key, ("", ord(key[0].upper())))
        how = {"key": key, "code": key, "windowsVirtualKeyCode": code,
               "modifiers": sum(_MODIFIERS[one] for one in modifiers)}  # fmt: skip
        self.call("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", text=text,
                  **how)  # fmt: skip
        self.call("Input.dispatchKeyEvent", type="keyUp", **how)

    def look_at(self, *, width: int, height: int, scheme: str = "light") -> None:
        """Give the window a size, and the person a preference."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height,
                  deviceScaleFactor=1, mobile=width < 500)  # fmt: skip
        wish = [{"name": "prefers-color-scheme", "value": scheme},
                {"name": "prefers-reduced-motion", "value": "reduce"}]  # fmt: skip
        self.call("Emulation.setEmulatedMedia", features=wish)

    def photograph(self, path: Path, *, whole: bool = True) -> None:
        """Keep what is seen."""
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(shot["data"]))

    def names(self) -> list[tuple[str, str]]:
        """Return role and name of everything that assistive technology is told of."""
        nodes = self.call("Accessibility.getFullAXTree")["nodes"]
        return [
            (one["role"]["value"], one.get("name", {}).get("value", ""))
            for one in nodes
            if not one.get("ignored")
        ]

    def _note(self, said: dict[str, Any]) -> None:
        params = said.get("params", {})
        match said["method"]:
            case "Runtime.exceptionThrown":
                self.complaints.append(str(params["exceptionDetails"])[:2000])
            case "Log.entryAdded" if params["entry"]["level"] == "error":
                entry = params["entry"]
                self.complaints.append(f"{entry['text']} {entry.get('url', '')}")
            case "Audits.issueAdded" if params["issue"]["code"] == "ContentSecurityPolicyIssue":
                self.complaints.append(str(params["issue"]["details"])[:2000])


@contextmanager
def browsing(profile: Path, *more: str) -> Iterator[Page]:
    """Run a browser with an empty profile, and `more` options, for the length of the block."""
    binary = chromium()
    assert binary is not None
    options = [
        "--headless=new", "--remote-debugging-port=0", f"--user-data-dir={profile}",
        "--no-first-run", "--disable-gpu", "--disable-dev-shm-usage", "--no-proxy-server",
        "--disable-background-networking", "--disable-component-update", "--hide-scrollbars",
    ]  # fmt: skip
    if os.geteuid() == 0:
        options.append("--no-sandbox")  # which it refuses to have as root
    with subprocess.Popen(
        [binary, *options, *more, "about:blank"], stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            port = _port(process)
            with connect(_target(port), max_size=None, open_timeout=_UP_S) as socket:
                yield Page(socket)
        finally:
            process.terminate()


def _port(process: "subprocess.Popen[str]") -> int:
    """Read where it listens; it says so when it is up."""
    assert process.stderr is not None
    for line in process.stderr:
        if "DevTools listening on" in line:
            return int(line.rpartition(":")[2].partition("/")[0])
    raise AssertionError("the browser has ended")


def _target(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=_UP_S) as answer:
        pages = [one for one in json.load(answer) if one["type"] == "page"]
    return str(pages[0]["webSocketDebuggerUrl"])
