"""Where packages come from."""

import platform

import pytest

from emberkeep.artifacts import agent, kernel
from emberkeep.artifacts.debs import merged
from emberkeep.artifacts.packages import Mirror, host_mirror


@pytest.fixture
def on_debian(monkeypatch):
    monkeypatch.setattr(platform, "freedesktop_os_release", lambda: {"ID": "debian"})


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("sources.list", "# x\ndeb [signed-by=/k] http://mirror.example/debian/ trixie main\n"),
        ("sources.list.d/a.list", "deb http://mirror.example/debian bookworm main\n"),
        (
            "sources.list.d/debian.sources",
            "Types: deb\nURIs: http://other.example/thing http://mirror.example/debian\n",
        ),
    ],
)
@pytest.mark.usefixtures("on_debian")
def test_the_hosts_own_mirror_is_used(tmp_path, file, text):
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / file).write_text(text)

    assert host_mirror(tmp_path) == "http://mirror.example/debian"


@pytest.mark.usefixtures("on_debian")
def test_a_security_mirror_is_not_the_archive(tmp_path):
    (tmp_path / "sources.list").write_text("deb http://a.example/debian-security x main\n")

    assert host_mirror(tmp_path) == ""


def test_the_sources_of_an_ubuntu_are_of_no_use(tmp_path, monkeypatch):
    monkeypatch.setattr(platform, "freedesktop_os_release", lambda: {"ID": "ubuntu"})
    (tmp_path / "sources.list").write_text("deb http://mirror.example/debian bookworm main\n")

    assert host_mirror(tmp_path) == ""


def test_a_mirror_without_security_updates_has_two_sources():
    bare = Mirror(archive="http://a/debian", security="")
    full = Mirror(archive="http://a/debian", security="http://a/debian-security")

    assert len(bare.sources) == 2
    assert full.sources[2].endswith("http://a/debian-security bookworm-security main")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("./lib/x86_64-linux-gnu/libc.so.6", "usr/lib/x86_64-linux-gnu/libc.so.6"),
        ("./lib64/ld-linux-x86-64.so.2", "usr/lib64/ld-linux-x86-64.so.2"),
        ("./bin/busybox", "usr/bin/busybox"),
        ("./usr/bin/python3", "usr/bin/python3"),
        ("./library/x", "library/x"),
        ("./", ""),
    ],
)
def test_a_package_is_unpacked_as_into_a_merged_system(path, expected):
    assert merged(path) == expected


def test_of_the_kernels_packages_the_one_with_the_kernel_is_taken():
    assert kernel.is_image("linux-image-6.1.0-56-cloud-amd64=6.1.192-2")
    assert not kernel.is_image("linux-image-cloud-amd64=6.1.192-2")


def test_the_agents_root_is_made_of_few_packages():
    names = ["perl-base=5", "libc6=2.36", "python3.11=3.11.2-6", "dpkg=1", "libssl3=3", "libc6-x=1"]

    assert agent.needed(names) == ["libc6=2.36", "python3.11=3.11.2-6", "libssl3=3"]


def test_the_agents_root_leaves_out_what_it_never_uses():
    assert agent.keep("usr/lib/python3.11/json/__init__.py")
    assert not agent.keep("usr/lib/python3.11/test/x.py")
    assert not agent.keep("usr/share/doc/crun/copyright")
