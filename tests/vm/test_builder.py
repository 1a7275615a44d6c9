"""Builds in the builder's microVM: no network is needed for any of it."""

from pathlib import Path

import pytest

from emberkeep_sdk import BuildFailed, Emberkeep
from tests.vm.servers import Server

pytestmark = [pytest.mark.vm, pytest.mark.timeout(900, func_only=True)]

DEBIAN = """\
ARG BASE=debian-12
FROM ${BASE} AS made
RUN mkdir /made && echo from the first stage > /made/text && ln /made/text /made/again
FROM debian-12
WORKDIR /srv
ENV COLOUR=green
RUN rm /etc/debian_version && rm -r /usr/share/doc && mkdir /usr/share/doc \\
 && touch /usr/share/doc/only && chmod u+s /usr/bin/env && echo "built by $(id -u)"
COPY --from=made --chown=1000:1000 /made /made
COPY . .
USER 1000:1000
HEALTHCHECK CMD false
ENTRYPOINT ["sleep"]
CMD ["100000"]
"""
LOOK = """
cat /made/again; stat -c '%u %h %a' /made/text /usr/bin/env; ls /etc/debian_version /usr/share/doc
pwd; echo $COLOUR; id -u; cat app.txt; tr '\\0' ' ' < /proc/1/cmdline
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "Dockerfile").write_text(DEBIAN)
    (tmp_path / "app.txt").write_text("first\n")
    (tmp_path / "left-out").write_text("x")
    (tmp_path / ".dockerignore").write_text("left-out\n")
    return tmp_path


def test_what_a_dockerfile_says_is_what_runs(ek: Emberkeep, server: Server, folder: Path):
    first = ek.images.build(folder, name="built", memory=512)
    (folder / "app.txt").write_text("second\n")

    again = ek.images.build(folder, name="built", memory=512)

    with ek.launch("built") as vm:
        lines = vm.exec(LOOK).stdout.splitlines()
    assert lines == [
        "from the first stage", "1000 2 644", "0 1 4755", "/usr/share/doc:", "only",
        "/srv", "green", "1000", "second", "sleep 100000 ",
    ]  # fmt: skip
    log = server.cli("images", "logs", first.ref).stdout
    assert "built by 0" in log
    assert "HEALTHCHECK has no effect" in log
    log = server.cli("images", "logs", again.ref).stdout
    assert "Using cache" in log
    assert "built by 0" not in log
    ek.images.delete("built")


def test_a_file_that_is_not_there_is_named(ek: Emberkeep, tmp_path: Path):
    (tmp_path / "Dockerfile").write_text(
        'FROM scratch\nCOPY --from=debian-12 /etc/hostname /x\nCOPY nothing /y\nCMD ["/x"]\n'
    )

    with pytest.raises(BuildFailed) as caught:
        ek.images.build(tmp_path, name="bare")

    assert caught.value.build.code == "CONTAINER_BUILD_FAILED"
    assert "COPY nothing /y" in (caught.value.build.reason or "")
    ek.images.delete("bare")
