"""What is put in comes out, however it is taken."""

from hypothesis import given
from hypothesis import strategies as st

from emberkeep_guest.inbox import Inbox


@given(
    st.lists(
        st.binary(min_size=1, max_size=50) | st.integers(1, 9000).map(bytes) | st.integers(1, 9000)
    )
)
def test_it_is_a_queue(steps):
    inbox, model = Inbox(), b""
    for step in steps:
        if isinstance(step, bytes):
            inbox.put(step)
            model += step
        else:
            assert inbox.peek(step) == model[:step]
            assert inbox.take(step) == model[:step]
            model = model[step:]
        assert len(inbox) == len(model)

    assert inbox.take(1 << 20) == model


def test_crumbs_are_merged():
    inbox = Inbox()
    for _ in range(10_000):
        inbox.put(b"x")

    assert len(inbox._pieces) < 4
