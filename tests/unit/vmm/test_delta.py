"""The memory file of a delta: what is written is read, and nothing else is taken for one."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emberkeep.domain.errors import Corrupt
from emberkeep.vmm.delta import Delta, write_delta, write_image
from emberkeep.vmm.pages import PAGE

PAGES = 64
SIZE = PAGES * PAGE


def page(filling: int) -> bytes:
    return bytes([filling]) * PAGE


def image(path: Path, contents: dict[int, bytes]) -> Path:
    with path.open("wb") as file:
        file.truncate(SIZE)
        for number, content in contents.items():
            os.pwrite(file.fileno(), content, number * PAGE)
    return path


def applied(base: Path, delta: Delta) -> bytes:
    memory = bytearray(base.read_bytes())
    for first, data in delta.pieces():
        memory[first * PAGE : first * PAGE + len(data)] = data
    return bytes(memory)


contents = st.dictionaries(st.integers(0, PAGES - 1), st.integers(0, 3).map(page), max_size=PAGES)


@given(old=contents, new=contents)
def test_base_and_delta_give_the_memory_back(tmp_path_factory, old, new):
    folder = tmp_path_factory.mktemp("delta")
    base = image(folder / "base", old)
    count = write_delta(folder / "delta", sorted(new.items()), base)

    delta = Delta.open(folder / "delta", memory_bytes=SIZE)
    wanted = image(folder / "wanted", old | new).read_bytes()
    assert applied(base, delta) == wanted
    assert delta.pages == count == sum(old.get(n, page(0)) != c for n, c in new.items())


@given(old=contents, new=contents)
def test_a_whole_image_is_the_base_with_the_pages_over_it(tmp_path_factory, old, new):
    folder = tmp_path_factory.mktemp("image")
    base = image(folder / "base", old)

    write_image(folder / "image", sorted(new.items()), base)

    assert (folder / "image").read_bytes() == image(folder / "wanted", old | new).read_bytes()


def test_zero_pages_take_no_room(tmp_path):
    base = image(tmp_path / "base", {n: page(7) for n in range(PAGES)})

    write_delta(tmp_path / "delta", [(n, page(0)) for n in range(PAGES)], base)

    assert (tmp_path / "delta").stat().st_size < 2 * PAGE


@pytest.mark.parametrize("cut", [0, 5, PAGE, PAGE + 1, 3 * PAGE - 8, -1])
def test_a_cut_file_is_corrupt(tmp_path, cut):
    base = image(tmp_path / "base", {})
    write_delta(tmp_path / "delta", [(1, page(1)), (5, page(2))], base)
    content = (tmp_path / "delta").read_bytes()
    (tmp_path / "delta").write_bytes(content[:cut])

    with pytest.raises(Corrupt):
        Delta.open(tmp_path / "delta", memory_bytes=SIZE)


def test_a_page_beyond_guest_memory_is_corrupt(tmp_path):
    base = image(tmp_path / "base", {})
    write_delta(tmp_path / "delta", [(PAGES - 1, page(1))], base)

    with pytest.raises(Corrupt):
        Delta.open(tmp_path / "delta", memory_bytes=SIZE - PAGE)


@given(junk=st.binary(max_size=3 * PAGE))
def test_a_foreign_file_is_corrupt(tmp_path_factory, junk):
    path = tmp_path_factory.mktemp("junk") / "delta"
    path.write_bytes(junk)

    with pytest.raises(Corrupt):
        Delta.open(path, memory_bytes=SIZE)
