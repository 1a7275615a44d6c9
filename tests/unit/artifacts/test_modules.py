"""Which kernel modules are taken, and in which order."""

from emberkeep.artifacts.modules import depends, load_order, module_name


def module(*needs: str) -> bytes:
    return b"\x7fELF..\0license=GPL\0depends=" + ",".join(needs).encode() + b"\0retpoline=Y\0"


def test_dependencies_come_first_and_once():
    modules = {
        "virtio_blk": module("virtio", "virtio_ring"),
        "virtio_net": module("virtio", "net-failover"),
        "net_failover": module("failover"),
        "failover": module(),
        "virtio": module("virtio_ring"),
        "virtio_ring": module(),
        "unwanted": module(),
    }

    order = load_order(modules, ("virtio_blk", "virtio_net"))

    assert order == [
        "virtio_ring", "virtio", "virtio_blk", "failover", "net_failover", "virtio_net",
    ]  # fmt: skip


def test_what_is_built_in_is_left_out():
    assert load_order({}, ("erofs",)) == []


def test_a_name_is_the_files_with_underscores():
    assert module_name("lib/modules/6.1/kernel/net/udp-diag.ko") == "udp_diag"


def test_a_module_without_the_field_depends_on_nothing():
    assert depends(b"\x7fELF") == ()
