"""Clients of AWS that are not Python's: the AWS CLI of PyPI, and the SDK of npm."""

import json
import shutil
import subprocess  # noqa: TID251  the clients as their users have them
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from botocore import xform_name

from tests.bars.servers import BarServer, furnished, lent
from tests.vm.aws_flow import REGION, SERVER, Flow, Refused, archive
from tests.vm.servers import serving

pytestmark = [pytest.mark.bars, pytest.mark.timeout(1800)]
_NODE = (20, 0)
_INSTALLED_S, _ASKED_S = 300, 60
_SCRIPT = """
import { readFileSync } from "node:fs";
const [package_, operation, file] = process.argv.slice(2);
const sdk = await import(package_);
const client = new sdk[Object.keys(sdk).find((name) => /^[A-Z][A-Za-z0-9]+Client$/.test(name))](
  { maxAttempts: 1, forcePathStyle: true });
const input = JSON.parse(readFileSync(0, "utf8"));
if (file) input.Body = readFileSync(file);
try {
  const { $metadata, ...output } = await client.send(new sdk[operation + "Command"](input));
  if (operation !== "PutObject") console.log(JSON.stringify(output));
} catch (error) {
  console.error(error.name + ": " + error.message);
  process.exit(9);
}
"""


@pytest.fixture(scope="module")
def server(stock: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BarServer]:
    home = tmp_path_factory.mktemp("aws")
    with (
        lent(furnished(home / "data", stock)) as data,
        serving(BarServer(data, home / "home", env=SERVER)) as it,
    ):
        yield it


@pytest.fixture(scope="module")
def variables(server: BarServer) -> dict[str, str]:
    """Return what `emberkeep env` says, beside our environment."""
    said = server.cli("env", "--format", "json")
    assert said.returncode == 0, said.stderr
    return {**server.env, **json.loads(said.stdout), "AWS_REGION": REGION}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("clients")
    (where / "app.zip").write_bytes(archive())
    return where


def test_the_aws_cli_of_pypi(folder: Path, variables: dict[str, str]):
    python = folder / "cli" / "bin" / "python"
    _installed([sys.executable, "-m", "venv", str(folder / "cli")], folder)
    _installed([str(python), "-m", "pip", "install", "--quiet", "awscli"], folder)
    aws = [str(folder / "cli" / "bin" / "aws"), "--output", "json"]

    def ask(operation: str, given: Mapping[str, Any]) -> dict[str, Any]:
        name = xform_name(operation, "-")
        words = [*aws, "lambda-microvms", name, "--cli-input-json", json.dumps(given)]
        return _answer(words, variables)

    _answer([*aws, "s3", "mb", "s3://cli"], variables, plain=True)
    copy = ["s3", "cp", "--quiet", str(folder / "app.zip"), "s3://cli/app.zip"]
    _answer([*aws, *copy], variables, plain=True)
    _walked(ask, "cli")


def test_the_sdk_of_npm(folder: Path, variables: dict[str, str]):
    node, npm = _node(), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("needs Node.js 20 or later, and npm")
    (folder / "package.json").write_text('{"type": "module"}')
    packages = ["@aws-sdk/client-lambda-microvms", "@aws-sdk/client-s3"]
    _installed([npm, "install", "--no-audit", "--no-fund", *packages], folder)
    (folder / "ask.mjs").write_text(_SCRIPT)
    script = [node, str(folder / "ask.mjs")]

    def ask(operation: str, given: Mapping[str, Any]) -> dict[str, Any]:
        return _answer([*script, packages[0], operation], variables, given=given)

    s3 = [*script, packages[1]]
    _answer([*s3, "CreateBucket"], variables, given={"Bucket": "node"}, plain=True)
    _answer(
        [*s3, "PutObject", str(folder / "app.zip")], variables,
        given={"Bucket": "node", "Key": "app.zip"}, plain=True,
    )  # fmt: skip
    _walked(ask, "node")


def _walked(ask: Callable[[str, Mapping[str, Any]], dict[str, Any]], name: str) -> None:
    flow = Flow(ask, name, f"s3://{name}/app.zip")
    flow.built()
    flow.tagged()
    flow.lived()
    flow.updated()
    flow.deleted()


def _answer(
    words: Sequence[str],
    variables: Mapping[str, str],
    *,
    given: Mapping[str, Any] | None = None,
    plain: bool = False,
) -> dict[str, Any]:
    done = subprocess.run(
        words, env=dict(variables), input=json.dumps(given or {}), capture_output=True, text=True,
        timeout=_ASKED_S, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise Refused(done.stderr)
    return {} if plain or not done.stdout.strip() else json.loads(done.stdout)


def _installed(words: Sequence[str], folder: Path) -> None:
    done = subprocess.run(
        words, cwd=folder, capture_output=True, text=True, timeout=_INSTALLED_S, check=False
    )
    if done.returncode != 0:
        pytest.skip(f"cannot be installed here: {done.stderr.strip()[-200:]}")


def _node() -> str | None:
    node = shutil.which("node")
    if node is None:
        return None
    said = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    version = tuple(map(int, said.strip().removeprefix("v").split(".")[:2]))
    return node if version >= _NODE else None
