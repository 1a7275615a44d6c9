"""The states of a microVM, and the sizes it may have."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emberkeep.domain.errors import Invalid, WrongState
from emberkeep.domain.microvms import ARROWS, MicroVM, State, valid_name
from emberkeep.domain.units import Memory, Size

VM = MicroVM(id="microvm-1", name="one", image="debian-12", size=Size(Memory(512)), snapshot="s",
             created_at=0.0, uid=1)  # fmt: skip


def test_every_state_is_listed_and_reaches_the_end():
    assert set(ARROWS) == set(State)
    for state in State:
        reached, border = {state}, {state}
        while border:
            border = {after for before in border for after in ARROWS[before]} - reached
            reached |= border
        assert State.TERMINATED in reached


@given(st.lists(st.sampled_from(State), max_size=8))
def test_a_path_is_walked_only_along_arrows(path):
    vm = VM
    for state in path:
        if state in ARROWS[vm.state]:
            after = vm.to(state)
            assert (after.state, after.revision) == (state, vm.revision + 1)
            vm = after
        else:
            with pytest.raises(WrongState):
                vm.to(state)


@pytest.mark.parametrize(
    ("text", "mib"), [("512", 512), ("512 MiB", 512), ("2 GiB", 2048), ("2g", 2048), ("128", 128)]
)
def test_memory_is_read(text, mib):
    assert Memory.parse(text).mib == mib


@pytest.mark.parametrize("text", ["", "x", "127", "0", "-1", "33 GiB", "129", "1.5 GiB", "9" * 30])
def test_what_is_no_memory_is_refused_with_a_hint(text):
    with pytest.raises(Invalid) as caught:
        Memory.parse(text)

    assert caught.value.hint


@pytest.mark.parametrize("vcpus", [0, 17, -1])
def test_one_to_sixteen_cpus(vcpus):
    with pytest.raises(Invalid):
        Size(Memory(512), vcpus)


@pytest.mark.parametrize("name", ["", "-a", "a b", "a/b", "a" * 64, "../x", "ü"])
def test_names_are_plain(name):
    with pytest.raises(Invalid):
        valid_name(name)
