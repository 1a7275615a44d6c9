"""What a QEMU outside /usr may see of the host."""

from pathlib import Path

import pytest

from emberkeep.serve.host import visible_to


@pytest.mark.parametrize("binary", ["/usr/bin/qemu", "/usr/local/bin/qemu"])
def test_in_usr_nothing_more_is_needed(binary: str):
    assert visible_to(Path(binary)) == ()


@pytest.mark.parametrize("binary", ["/bin/qemu", "/qemu", "/opt/qemu", "/sbin/qemu"])
def test_the_whole_host_is_never_seen(binary: str):
    assert Path("/") not in visible_to(Path(binary))


def test_a_wrapper_sees_its_own_folder_and_not_the_home_above_it(tmp_path: Path):
    home = tmp_path / "home"
    (home / "bin").mkdir(parents=True)
    wrapper = home / "bin" / "qemu"
    wrapper.touch()
    assert visible_to(wrapper) == (home / "bin",)


def test_an_installation_sees_its_firmware(tmp_path: Path):
    (tmp_path / "share" / "qemu").mkdir(parents=True)
    (tmp_path / "bin").mkdir()
    binary = tmp_path / "bin" / "qemu"
    binary.touch()
    assert visible_to(binary) == (tmp_path,)
