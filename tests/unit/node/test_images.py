"""Which snapshots stay: those that something will be launched from."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from emberkeep.domain.images import Main, Root, Source
from emberkeep.domain.units import Memory, Size
from emberkeep.node.images import Images
from emberkeep.node.layout import Layout

SIZE = Size(Memory(2048), 2)
EXTRA = (("cache", 1 << 30), ("out", 2 << 30))


def source(digest: str) -> Source:
    disks = (("image", digest * 64),)
    root = Root(disks=disks, main=Main(argv=("x",)), managed=False, bytes=0)
    return Source(image="builder", key="builder", root=root)


class FakeShapes:
    """Calls a shape by all that it is made of."""

    def of(self, size: Size, source: Source, *, extra: object) -> Any:
        return SimpleNamespace(size=size, key=f"{source.root.disks[0][1][0]}{extra == EXTRA:d}")


async def test_of_a_source_the_snapshot_of_today_is_kept(tmp_path: Path):
    layout = Layout(tmp_path)
    unused: Any = None
    shapes: Any = FakeShapes()
    images = Images(layout, unused, shapes, unused, unused)
    for name in ("builder/2048m-2c-a1", "builder/2048m-2c-b1", "builder/1024m-2c-b1",
                 "builder/2048m-2c-b0", "debian-12/2048m-2c-a1"):  # fmt: skip
        (layout.images / name).mkdir(parents=True)
        (layout.images / name / "meta.json").touch()
    (today,) = [path for path in layout.images.glob("builder/*") if path.name == f"{SIZE}-b1"]
    await images.keep_only(source("b"), SIZE, extra=EXTRA)

    assert list(layout.images.glob("builder/*")) == [today]
    assert len(list(layout.images.glob("debian-12/*"))) == 1
