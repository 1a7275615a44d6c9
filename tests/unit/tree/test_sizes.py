"""Files and functions fit a head (STYLE §1)."""

import ast
from pathlib import Path

import pytest

SRC = Path(__file__).parents[3] / "src"
FILE, FUNCTION = 500, 60


@pytest.mark.parametrize("path", sorted(SRC.rglob("*.py")), ids=lambda p: str(p.relative_to(SRC)))
def test_fits_a_head(path):
    source = path.read_text()
    functions = [
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]

    assert source.count("\n") <= FILE
    assert [f.name for f in functions if (f.end_lineno or 0) - f.lineno >= FUNCTION] == []
