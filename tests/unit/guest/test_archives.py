"""Archives that want to do harm."""

# Paths in /tmp are the container's; what happens in it can only be looked for again and again.
# ruff: noqa: S108

import asyncio
import io
import tarfile
from contextlib import suppress

import pytest

from emberkeep_guest.messages import receive_message
from emberkeep_guest.session import StreamReset
from tests.unit.guest.conftest import Client, Failed, House, everything, reply


async def unpack(client: Client, path: str, archive: bytes) -> dict[str, object]:
    stream, _ = await client.open("unpack", path=path, parents=True)
    with suppress(StreamReset):
        await stream.write(archive, eof=True)
    return reply(await receive_message(stream))


def archive(*members: tuple[str, bytes, str]) -> bytes:
    """Return a tar of (name, type, link name or contents)."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, kind, text in members:
            info = tarfile.TarInfo(name)
            info.type = kind
            if kind == tarfile.REGTYPE:
                info.size = len(text)
                tar.addfile(info, io.BytesIO(text.encode()))
            else:
                info.linkname = text
                info.devmajor, info.devminor = 1, 5
                tar.addfile(info)
    return out.getvalue()


REG, SYM, LINK, DIR, CHR, FIFO = b"0", b"2", b"1", b"5", b"3", b"6"


@pytest.mark.parametrize(
    "members",
    [
        [("../../up", REG, "x")],
        [("a/../../../up", REG, "x")],
        [("..", DIR, "")],
    ],
)
async def test_names_that_lead_out_are_refused(house: House, members):
    async with house.client() as client:
        with pytest.raises(Failed) as failure:
            await unpack(client, "/srv/evil", archive(*members))
        with pytest.raises(Failed):
            await client.call("stat", path="/srv/up")

    assert failure.value.kind == "invalid"


async def test_an_absolute_name_is_made_below(house: House):
    async with house.client() as client:
        await unpack(client, "/srv/abs", archive(("/etc/absolute", REG, "x")))
        assert await client.read("/srv/abs/etc/absolute") == b"x"


async def test_links_do_not_lead_out_of_the_directory(house: House):
    members = [
        ("out", SYM, "/etc"),
        ("out/through", REG, "x"),
        ("up", SYM, "../../../../etc"),
        ("up/through", REG, "x"),
        ("hard", LINK, "/etc/hostname"),
        ("host", SYM, "/etc/hostname"),
        ("host", REG, "replaced"),
    ]
    async with house.client() as client:
        for at in range(len(members)):
            with suppress(Failed):
                await unpack(client, "/srv/links", archive(*members[: at + 1]))
        etc = [it["name"] for it in (await client.call("list", path="/etc"))["entries"]]
        assert "through" not in etc
        assert await client.read("/etc/hostname") == b"emberkeep\n"


async def test_nothing_is_written_through_a_device_or_pipe(house: House):
    members = [("dev", CHR, ""), ("dev", REG, "data"), ("p", FIFO, ""), ("p", REG, "data")]
    async with house.client() as client:
        async with asyncio.timeout(10):
            await unpack(client, "/srv/devices", archive(*members))
        found = (await client.call("list", path="/srv/devices"))["entries"]

    assert [it["type"] for it in found] == ["file", "file"]


@pytest.mark.parametrize("cut", [1, 511, 512, 700, 1500])
async def test_a_cut_archive(house: House, cut):
    whole = archive(("a", REG, "x" * 1000), ("b", REG, "y" * 1000))
    async with house.client() as client:
        with pytest.raises(Failed) as failure:
            await unpack(client, "/srv/cut-archive", whole[:cut])

    assert failure.value.kind == "invalid"


async def test_what_is_no_archive(house: House):
    async with house.client() as client:
        for data in (b"", b"hello", b"\xff" * 100_000, b"\x1f\x8b" + bytes(1000)):
            with pytest.raises(Failed) as failure:
                await unpack(client, "/srv/none", data)
            assert failure.value.kind == "invalid"


async def test_a_header_that_asks_for_all_memory(house: House):
    info = tarfile.TarInfo("long")
    info.type = tarfile.GNUTYPE_LONGNAME
    info.size = 7 << 30
    async with house.client() as client:
        stream, _ = await client.open("unpack", path="/srv")
        await stream.write(info.tobuf(tarfile.GNU_FORMAT) + bytes(100_000), eof=True)
        with pytest.raises(Failed):
            reply(await receive_message(stream))
        assert (await client.run("true")).code == 0


async def test_thousands_of_nested_headers(house: House):
    info = tarfile.TarInfo("x")
    info.type = tarfile.XHDTYPE
    async with house.client() as client:
        with pytest.raises(Failed):
            await unpack(client, "/srv/nested", info.tobuf() * 30_000)
        assert (await client.run("true")).code == 0


async def test_a_full_disk_while_unpacking(house: House):
    async with house.client() as client:
        with pytest.raises(Failed) as failure:
            await unpack(client, "/dev/shm/a", archive(("f", REG, "x" * (70 << 20))))
        await client.call("remove", path="/dev/shm/a", recursive=True)

    assert failure.value.kind == "no_space"


async def test_a_broken_off_archive_leaves_no_worker(house: House):
    async with house.client() as client:
        stream, _ = await client.open("pack", path="/usr")
        await stream.read()
        stream.reset()
        before = await client.run("true")
        stream, _ = await client.open("unpack", path="/srv")
        stream.reset()
        async with asyncio.timeout(5):
            while (await client.run("sh", "-c", "cat /sys/fs/cgroup/cgroup.procs; true")).out:
                pass

    assert before.code == 0


async def test_a_directory_that_changes_while_it_is_packed(house: House):
    script = """
        mkdir -p /srv/live; cd /srv/live
        while :; do echo $$ > a; : > a; rm -f b; echo x > b; done
    """
    async with house.client() as client:
        stream, _ = await client.exec("sh", "-c", script)
        await asyncio.sleep(0.3)
        for _ in range(20):
            packed, _ = await client.open("pack", path="/srv/live")
            data = await everything(packed)
            with tarfile.open(fileobj=io.BytesIO(data)) as tar:
                assert "./a" in tar.getnames() or tar.getnames()
        stream.reset()


async def test_packing_the_root_leaves_other_file_systems_out(house: House):
    async with house.client() as client:
        stream, _ = await client.open("pack", path="/")
        head = b""
        while len(head) < 200_000:
            head += await stream.read()
        stream.reset()

    assert b"./proc/1/" not in head
