"""The four examples, cold and with only their code changed; what it takes them to answer."""

import shutil
import time
from pathlib import Path

import pytest

from emberkeep_sdk import Emberkeep
from tests.bars.knobs import Figures
from tests.vm.examples import FLASK, FOLDER, NODE, REPL, STATIC, Example, Site

pytestmark = [pytest.mark.bars, pytest.mark.timeout(3600, func_only=True)]

_CODE = {"flask": "app.py", "static": "site/style.css", "repl": "server.py", "node": "server.js"}


@pytest.mark.parametrize("example", [FLASK, STATIC, REPL, NODE], ids=lambda one: one.name)
def test_an_example_cold_and_changed(
    example: Example, ek: Emberkeep, tmp_path: Path, figures: Figures
):
    example.skip_unless_reachable()
    folder = tmp_path / example.name
    shutil.copytree(FOLDER / example.name, folder)

    took = {}
    for way in ("cold", "changed"):
        ref = example.build(ek, source=folder)
        build = ek.images.builds(ref)[0]
        assert build.started_at
        assert build.ended_at
        took[way] = build.ended_at - build.started_at
        began = time.monotonic()
        with ek.launch(ref) as vm:
            took[f"launch {way}"] = time.monotonic() - began
            example.check(Site.of(ek, vm))
        with (folder / _CODE[example.name]).open("a") as file:
            file.write("\n")
    with ek.images.log(build.id) as pieces:
        log = b"".join(pieces)
    sizes = build.sizes
    assert sizes
    figures("example", name=example.name, **took, files=sizes.code, memory=sizes.memory)
    assert b"Using cache" in log, "what did not change was made again"
