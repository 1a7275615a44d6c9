"""Makes the SDK's synchronous client from the asynchronous one: same source, without the waiting.

`python scripts/unasync.py` writes src/emberkeep_sdk/_sync; with `--check` it writes nothing and
ends with status 1 if what is there is not what it would write.
"""

import argparse
import io
import re
import shutil
import subprocess  # noqa: TID251  runs ruff
import sys
import tokenize
from pathlib import Path
from typing import Final

SOURCE: Final = Path(__file__).parents[1] / "src" / "emberkeep_sdk" / "_async"
TARGET: Final = SOURCE.with_name("_sync")

NAMES: Final = {
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
    "__aiter__": "__iter__",
    "__anext__": "__next__",
    "StopAsyncIteration": "StopIteration",
    "AsyncGenerator": "Generator",
    "asynccontextmanager": "contextmanager",
    "AbstractAsyncContextManager": "AbstractContextManager",
    "aclose": "close",
    "aread": "read",
    "aiter_bytes": "iter_bytes",
    "_async": "_sync",
    "asynchronous": "synchronous",
}
DROPPED: Final = frozenset({"async", "await"})
_CLASS: Final = re.compile(r"Async(?=[A-Z])")
_WORDS: Final = re.compile(r"\b(?:async|await) ")
_UNUSED: Final = re.compile(r"  # noqa: ASYNC\d+.*")


def synchronous(source: str) -> str:
    """Return `source` without its waiting; the layout is for the formatter to mend."""
    lines = source.splitlines(keepends=True)
    edits: list[tuple[int, int, int, str]] = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        (row, start), (last, end) = token.start, token.end
        if token.type == tokenize.NAME and token.string in DROPPED:
            edits.append((row, start, end + 1, ""))  # and the space behind it
        elif token.type == tokenize.NAME:
            edits.append((row, start, end, _name(token.string)))
        elif token.type in (tokenize.STRING, tokenize.COMMENT) and row == last:
            edits.append((row, start, end, _prose(token.string)))
        elif token.type == tokenize.STRING:
            edits.extend(_prose_lines(lines, row, last))
    for row, start, end, text in reversed(edits):
        line = lines[row - 1]
        lines[row - 1] = line[:start] + text + line[end:]
    return "".join(_UNUSED.sub("", line) for line in lines)


def _name(word: str) -> str:
    return NAMES.get(word) or _CLASS.sub("", word)


def _prose(text: str) -> str:
    text = re.sub(r"\b\w+\b", lambda word: _name(word[0]), text)
    return _WORDS.sub("", text)


def _prose_lines(lines: list[str], first: int, last: int) -> list[tuple[int, int, int, str]]:
    rows = range(first, last + 1)
    return [(row, 0, len(lines[row - 1]), _prose(lines[row - 1])) for row in rows]


def formatted(source: str, name: str) -> str:
    """Lay `source` out as all our code is."""
    ruff = shutil.which("ruff", path=str(Path(sys.executable).parent)) or "ruff"
    config = str(TARGET.parents[2] / "pyproject.toml")
    for step in (["check", "--select", "I", "--fix", "--quiet"], ["format", "--quiet"]):
        done = subprocess.run(  # noqa: S603  our own tool
            [ruff, *step, "--no-cache", "--config", config, "--stdin-filename", name, "-"],
            input=source, capture_output=True, text=True, check=True,
        )  # fmt: skip
        source = done.stdout
    return source


def wanted() -> dict[str, str]:
    """Return what the target folder should hold, by file name."""
    return {
        path.name: formatted(synchronous(path.read_text("utf-8")), str(TARGET / path.name))
        for path in sorted(SOURCE.glob("*.py"))
    }


def main() -> int:
    """Write the files, or with --check only compare them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; say what differs")
    check = parser.parse_args().check
    made = wanted()
    there = {path.name: path.read_text("utf-8") for path in TARGET.glob("*.py")}
    stale = sorted(name for name in made | there if made.get(name) != there.get(name))
    for name in stale:
        print(("stale: " if check else "wrote: ") + str(TARGET / name))
        if not check and name in made:
            TARGET.mkdir(exist_ok=True)
            (TARGET / name).write_text(made[name], "utf-8")
        elif not check:
            (TARGET / name).unlink()
    return 1 if stale and check else 0


if __name__ == "__main__":
    sys.exit(main())
