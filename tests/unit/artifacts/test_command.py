"""Running the tools."""

import threading
import time

import pytest

from emberkeep.artifacts.command import Commands, Stopped, _tool, meaning_of
from emberkeep.domain.errors import Corrupt, NoSpace, Unavailable


def test_lines_come_while_the_tool_runs():
    lines: list[str] = []

    said = Commands().run(["sh", "-c", "echo one; echo two >&2"], line=lines.append)

    assert lines == ["one", "two"]
    assert said == "one\ntwo"


def test_a_tool_that_is_missing_is_named():
    with pytest.raises(Unavailable, match=r"^no-such-tool is not installed") as caught:
        Commands().run(["no-such-tool"])

    assert "make setup" in caught.value.hint


def test_a_tool_is_named_whatever_it_is_wrapped_in():
    said = "unshare: failed to execute mmdebstrap: No such file or directory"

    assert _tool(["unshare", "--mount", "--", "mmdebstrap", "--mode=root"]) == "mmdebstrap"
    assert meaning_of("mmdebstrap", 127, said).message == "mmdebstrap is not installed"


def test_a_failing_tool_is_quoted():
    with pytest.raises(Unavailable, match="sh failed with status 3: it hurts"):
        Commands().run(["sh", "-c", "echo it hurts; exit 3"])


def test_output_can_be_left_unread():
    with Commands().reading(["sh", "-c", "head -c 1000000 /dev/zero; echo end"]) as stream:
        assert stream.read(1) == b"\0"


def test_a_tool_that_fails_while_read_is_noticed():
    with pytest.raises(Unavailable), Commands().reading(["sh", "-c", "exit 1"]) as stream:
        stream.read()


def test_stop_ends_what_runs_and_what_would():
    commands = Commands()
    threading.Timer(0.2, commands.stop).start()
    started = time.monotonic()

    with pytest.raises(Stopped):
        commands.run(["sleep", "30"])
    with pytest.raises(Stopped):
        commands.run(["true"])

    assert time.monotonic() - started < 10


@pytest.mark.parametrize(
    ("output", "error", "hint"),
    [
        ("tar: write error: No space left on device", NoSpace, "free some space"),
        ("E: You don't have enough free space in /x/", NoSpace, "free some space"),
        ("W: Temporary failure resolving 'deb.debian.org'", Unavailable, "network"),
        ("E: Could not connect to localhost:9 (127.0.0.1)", Unavailable, "proxy"),
        ("E: The repository 'http://x/y' does not have a Release file.", Unavailable, "mirror"),
        ("the following signatures couldn't be verified: NO_PUBKEY 1", Unavailable, "keyring"),
        ("newuidmap: write to uid_map failed: Operation not permitted", Unavailable, "doctor"),
        ("E: Failed to fetch x  Hash Sum mismatch", Corrupt, "again"),
        ("", Unavailable, "doctor"),
    ],
)
def test_a_failure_means_something(output, error, hint):
    meaning = meaning_of("/usr/bin/mmdebstrap", 25, f"I: starting\n{output}\nE: the end")

    assert type(meaning) is error
    assert hint in meaning.hint
    assert meaning.message.startswith("mmdebstrap failed")
