"""Looking at the host the tests run on, and at made-up ones."""

import os

from emberkeep.doctor import gather
from emberkeep.doctor.examine import Subject, examine
from emberkeep.doctor.findings import Level

QEMU = """\
#!/bin/sh
case "$*" in
--version) echo 'QEMU emulator version 8.2.2 (Debian 1:8.2.2+ds-0ubuntu1)' ;;
"-sandbox "*) exit {sandbox} ;;
"-machine help") echo 'Supported machines are:'; echo 'microvm              microvm (i386)' ;;
"-device help") echo 'name "virtio-blk-pci", bus PCI, alias "virtio-blk"' ;;
esac
"""


def fake_qemu(tmp_path, text: str) -> str:
    path = tmp_path / "qemu"
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


def test_qemus_features_are_read(tmp_path):
    qemu = gather.qemu(fake_qemu(tmp_path, QEMU.format(sandbox=1)))

    assert qemu.version == (8, 2, 2)
    assert not qemu.sandbox
    assert "microvm" in qemu.machines
    assert qemu.devices == {"virtio-blk-pci"}


def test_a_qemu_that_is_not_there_has_a_fault():
    assert gather.qemu("no-such-qemu").fault == "it is not installed"


def test_a_qemu_that_does_not_run_has_a_fault(tmp_path):
    broken = fake_qemu(tmp_path, "#!/bin/sh\necho libfoo is missing >&2\nexit 127\n")

    assert "libfoo is missing" in gather.qemu(broken).fault


def test_a_data_folder_need_not_exist_yet(tmp_path):
    disk = gather.disk(tmp_path / "a" / "b")

    assert disk.path == tmp_path / "a" / "b"
    assert disk.fault == ""
    assert disk.filesystem != "unknown"
    assert list(tmp_path.iterdir()) == []


def test_this_host_has_facts():
    host = gather.host()

    assert host.cores >= 1
    assert host.memory_mib > 0
    assert gather.rights().uid == os.geteuid()
    assert gather.tools()["setpriv"].endswith("setpriv")
    assert gather.limits().open_files != 0


async def test_a_host_is_examined_before_anything_is_set_up(tmp_path):
    found = await examine(Subject(data=tmp_path, qemu="no-such-qemu", artifacts={"kernel": "none"}))

    by_name = {it.name: it for it in found}
    assert by_name["qemu"].level is Level.FAIL
    assert by_name["accelerator"].level is Level.WARN
    assert by_name["artifact kernel"].level is Level.FAIL
    assert not (tmp_path / "run").exists()
