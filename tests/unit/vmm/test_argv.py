"""QEMU's command line: what the promises of the shape look like in words."""

from dataclasses import replace

from emberkeep.vmm.qemu.argv import Descriptors, cold, qemu_argv
from emberkeep.vmm.shape import MICROVM
from tests.unit.vmm.test_snapshot import SHAPE

FDS = Descriptors(qmp=3, agent=4, console=5, tap=6, disks={"agent": 7, "image": 8}, overlay=9,
                  base=10)  # fmt: skip


def words(**changes):
    return qemu_argv(replace(SHAPE, **changes), "/usr/bin/qemu", "emberkeep:x:y", FDS)


def test_memory_is_private_and_read_only_at_its_source():
    (memory,) = [word for word in words() if word.startswith("memory-backend-file")]

    assert "share=off" in memory
    assert "readonly=on" in memory
    assert "rom=off" in memory
    assert "reserve=off" in memory


def test_it_starts_stopped_sandboxed_and_waiting():
    argv = words()

    assert "-S" in argv
    assert argv[argv.index("-sandbox") + 1].count("deny") == 4
    assert argv[-2:] == ["-incoming", "defer"]
    assert cold(argv) == argv[:-2]


def test_no_path_of_the_host_is_in_it():
    paths = [word for word in words() if "/" in word and "/dev/fdset/" not in word]

    assert all("/image/" in path or path == "/usr/bin/qemu" for path in paths)


def test_the_mark_is_in_it():
    assert "emberkeep:x:y,debug-threads=on" in words()


def test_a_microvm_board_has_devices_without_pci():
    argv = " ".join(words(machine=MICROVM))

    assert "-pci," not in argv
    assert "virtio-blk-device" in argv
    assert "rtc=on" in argv  # without it the kernel's RTC probe costs 3 s (ENGINE-FACTS)


def test_the_overlay_lies_on_the_read_only_base():
    argv = words()
    (overlay,) = [word for word in argv if "driver=qcow2" in word]
    (base,) = [word for word in argv if "node-name=base" in word]

    assert "backing=base" in overlay
    assert "read-only=on" in base


def test_an_extra_disk_is_handed_over_open_behind_all_others():
    fds = replace(FDS, extra={"out": 11})
    shape = replace(SHAPE, extra=(("out", 1 << 30),))
    text = " ".join(qemu_argv(shape, "/usr/bin/qemu", "emberkeep:x:y", fds))
    slot = 4 + len(SHAPE.disks)

    assert f"-add-fd fd=11,set={slot} " in text
    assert f"filename=/dev/fdset/{slot},node-name=out" in text
    assert f"virtio-blk-pci,addr={slot:#x},disable-legacy=on,drive=out,serial=out" in text
