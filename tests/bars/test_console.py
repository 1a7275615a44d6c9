"""The console in a real browser, on a real microVM: everything a person does on its first page.

With EMBERKEEP_BARS_SHOTS=folder it leaves photographs there: light and dark, wide and narrow.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from emberkeep_sdk import Emberkeep
from tests.bars.browser import Page, browsing, chromium
from tests.bars.knobs import word
from tests.bars.servers import BarServer

pytestmark = [
    pytest.mark.bars,
    pytest.mark.timeout(900),
    pytest.mark.skipif(chromium() is None, reason="no Chromium here: apt-get install chromium"),
]
STEP_S = 300.0  # under TCG, with the first snapshot to be made


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    with browsing(tmp_path / "profile") as opened:
        opened.look_at(width=1200, height=900)
        yield opened


def test_a_person_uses_the_console(server: BarServer, ek: Emberkeep, page: Page, tmp_path: Path):
    shots = Path(word("SHOTS") or tmp_path)
    _log_in(server, page, shots)
    _launch(page, shots)
    _built_images(page)
    _use_the_terminal(page)
    for scheme in ("light", "dark"):
        _look(page, shots, scheme)

    page.click("[aria-label='Suspend web']")
    page.until("document.querySelector('tr .state[data-state=SUSPENDED]')", within=STEP_S)
    page.until("document.getElementById('terminal-state').textContent !== 'connected'")
    assert ek.get("web").state == "SUSPENDED"
    page.click("[aria-label='Resume web']")
    page.until("document.querySelector('tr .state[data-state=RUNNING]')", within=STEP_S)

    ek.get("web").suspend()  # somebody else does: the page shows it without being asked
    page.until("document.querySelector('tr .state[data-state=SUSPENDED]')", within=STEP_S)

    page.click("[aria-label='Terminate web']")
    page.until("document.getElementById('confirm-dialog').open")
    page.press("Escape")  # no
    page.until("!document.getElementById('confirm-dialog').open")
    assert ek.get("web").state == "SUSPENDED"
    page.click("[aria-label='Terminate web']")
    page.click("#confirm-yes")
    page.until("!document.getElementById('no-vms').hidden", within=STEP_S)
    assert ek.list() == []
    page.until("document.querySelector('#events li').dataset.kind === 'terminated'", within=STEP_S)
    kinds = page.says("[...document.querySelectorAll('#events li')].map((li) => li.dataset.kind)")
    assert [kind for kind in kinds[::-1] if kind != "snapshot-made"] == [
        "launching", "running", "suspending", "suspended", "resuming", "resumed",
        "suspending", "suspended", "terminating", "terminated",
    ]  # fmt: skip

    page.click("#logout")
    page.until("!document.getElementById('login').hidden")
    usual = ("401", "ERR_NETWORK_CHANGED")  # a wrong key; interfaces that came with microVMs
    assert [one for one in page.complaints if not any(word in one for word in usual)] == []


def _log_in(server: BarServer, page: Page, shots: Path) -> None:
    """With a wrong key, then by a link, which is good once; the key itself is nowhere."""
    page.open(f"{server.endpoint}/")
    page.until("!document.getElementById('login').hidden")
    assert page.says("document.activeElement.id") == "key"
    page.type("ID.WRONG")
    page.press("Enter")
    page.until("!document.getElementById('login-error').hidden")
    page.photograph(shots / "login.png")
    done = server.cli("console", "--json")
    url = json.loads(done.stdout)["url"]
    assert server.key not in url

    page.open("about:blank")
    page.open(url)
    page.until("document.getElementById('link-text').textContent === 'live'")

    assert "#" not in page.says("location.href")
    kept = page.says("JSON.stringify({...sessionStorage, ...localStorage}) + document.cookie")
    assert server.key.partition(".")[2] not in kept
    again = httpx.post(
        f"{server.endpoint}/console/session",
        json={"code": url.partition("#code=")[2]}, trust_env=False,
    )  # fmt: skip
    assert again.status_code == 401


def _launch(page: Page, shots: Path) -> None:
    """By keyboard alone."""
    page.says("document.getElementById('launch').focus()")
    page.press("Enter")
    page.until("document.getElementById('launch-dialog').open")
    assert page.says("document.activeElement.id") == "launch-image"
    page.press("Tab")
    page.type("web")
    page.photograph(shots / "launch.png", whole=False)
    page.press("Enter")
    page.until("document.querySelector('#vms .state[data-state=RUNNING]')", within=STEP_S)


def _built_images(page: Page) -> None:
    """What was built has a state instead of snapshots; only what is active can be launched."""
    page.says(
        """(async () => {
            const built = (name, state, more) => ({ name, kind: "built", digest: null,
              snapshots: {}, state, versions: 2, latest_active: null, latest_failed: null,
              ...more });
            const images = [built("good", "UPDATED", { latest_active: 2 }),
              built("new", "CREATING", {}), built("bad", "CREATE_FAILED", { latest_failed: 2 })];
            const real = window.fetch;
            window.fetch = async (path, ...more) => path === "/v1/images"
              ? new Response(JSON.stringify({ images })) : real(path, ...more);
            window.asBefore = () => { window.fetch = real; };
            await (await import("/console/js/images.js")).showImages();
        })()"""
    )
    said = page.says("[...document.querySelectorAll('#images > li')].map((li) => li.innerText)")
    assert [" ".join(one.split()) for one in said] == [
        "good ready 2 versions, 2 is active", "new building 2 versions, none is active",
        "bad failed 2 versions, none is active, 2 failed",
    ]  # fmt: skip
    assert page.says(CONTRAST) == []
    page.click("#launch")
    page.until("document.getElementById('launch-dialog').open")
    assert page.says(
        "[...document.getElementById('launch-image').options].map((o) => o.value)"
    ) == ["good"]
    assert page.says("document.getElementById('launch-memory').disabled")
    page.press("Escape")
    page.says("window.asBefore(), import('/console/js/images.js').then((one) => one.showImages())")


def _use_the_terminal(page: Page) -> None:
    page.click("[aria-label='Terminal web']")
    page.until("document.getElementById('terminal-state').textContent === 'connected'")
    page.type("echo $((6*7))-$(hostname)-grüße; tty; stty size")
    page.press("Enter")
    page.until("/42-web-grüße/.test(document.querySelector('.xterm-rows').innerText)")
    page.until("/\\/dev\\/pts\\/\\d+/.test(document.querySelector('.xterm-rows').innerText)")
    page.type("seq 1 30000")  # more than the window holds
    page.press("Enter")
    page.until("/^30000$/m.test(document.querySelector('.xterm-rows').innerText)", within=STEP_S)
    page.until("/30000\\n.*# *$/.test(document.querySelector('.xterm-rows').innerText.trimEnd())")
    page.type("sh -c 'echo now; exec sleep 1000'")
    page.press("Enter")
    page.until("/^now$/m.test(document.querySelector('.xterm-rows').innerText)")
    page.press("c", "ctrl")
    page.until("/\\^C[^]*# *$/.test(document.querySelector('.xterm-rows').innerText.trimEnd())")
    page.type("printf '\\033[38;2;240;90;20members\\033[0m \\033[31mred \\033[32mgreen\\033[0m\\n'")
    page.press("Enter")
    page.until("/^embers red green/m.test(document.querySelector('.xterm-rows').innerText)")
    page.press("Escape", "shift")
    assert page.says("document.activeElement.id") == "terminal-close"


def _look(page: Page, shots: Path, scheme: str) -> None:
    """Nothing is cut at any width, everything has a name, contrast is enough."""
    for width, height in ((1200, 900), (360, 740)):
        page.look_at(width=width, height=height, scheme=scheme)
        page.until(f"innerWidth === {width}")
        page.until(
            "document.querySelector('.xterm-screen').getBoundingClientRect().right <= innerWidth"
        )
        page.photograph(shots / f"{scheme}-{width}.png")
        assert page.says("document.documentElement.scrollWidth") <= width
        assert page.says(CONTRAST) == []
    page.look_at(width=1200, height=900, scheme=scheme)
    page.until("innerWidth === 1200")
    nameless = [role for role, name in page.names() if role in NAMED and not name]
    assert nameless == []


NAMED = {"button", "checkbox", "combobox", "textbox", "table", "region", "dialog", "list", "link"}
# WCAG 2.2, 1.4.3: the words that are seen stand out from what is behind them
CONTRAST = """
(() => {
  const parts = (color) => {
    const canvas = new OffscreenCanvas(1, 1).getContext("2d");
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    return { r, g, b, a };
  };
  const light = ({ r, g, b }) => [r, g, b].map((one) => one / 255)
    .map((one) => (one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4))
    .reduce((sum, one, at) => sum + one * [0.2126, 0.7152, 0.0722][at], 0);
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const color = parts(getComputedStyle(at).backgroundColor);
      if (color.a === 255) return color;
    }
    return parts("white");
  };
  const weak = [];
  for (const element of document.querySelectorAll("body *:not(.xterm, .xterm *)")) {
    const words = [...element.childNodes].some((one) => one.nodeType === 3 && one.data.trim());
    if (!words || !element.checkVisibility() || element.disabled) continue;
    const [a, b] = [light(parts(getComputedStyle(element).color)), light(ground(element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) weak.push(`${element.textContent.slice(0, 40)}: ${ratio.toFixed(2)}`);
  }
  return weak;
})()
"""
