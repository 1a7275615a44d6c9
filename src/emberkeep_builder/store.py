"""The managed bases as a read-only image store of buildah's: metadata of ours, no import.

The only layer of each is the mounted file system itself, as the directory `diff` of the overlay
driver, so a base costs a mount and no copy. Pure, but for `write`.
"""

import base64
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from emberkeep_builder.job import Base

CREATED: Final = "2023-11-14T22:13:20Z"
_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
_CONFIG: Final = "application/vnd.docker.container.image.v1+json"
_LAYER: Final = "application/vnd.docker.image.rootfs.diff.tar"
_PATH: Final = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def configuration(base: Base) -> bytes:
    """Return the image configuration of `base`; it has no command: a build must say one."""
    return _json(
        {
            "architecture": "amd64",
            "os": "linux",
            "created": CREATED,
            "config": {"Env": [_PATH]},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{base.digest}"]},
            "history": [{"created": CREATED, "created_by": f"Emberkeep, {base.name}"}],
        }
    )


def manifest(base: Base, config: bytes) -> bytes:
    """Return the image manifest of `base`."""
    return _json(
        {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": {"mediaType": _CONFIG, "size": len(config), "digest": _digest(config)},
            "layers": [{"mediaType": _LAYER, "size": 0, "digest": f"sha256:{base.digest}"}],
        }
    )


def image_record(base: Base, config: bytes, man: bytes) -> dict[str, Any]:
    """Return what stands in images.json."""
    keys = {"manifest": man, f"manifest-{_digest(man)}": man, _digest(config): config}
    return {
        "id": hashlib.sha256(config).hexdigest(),
        "digest": _digest(man),
        "names": [f"localhost/{base.name}:latest"],
        "layer": base.digest,
        "metadata": "{}",
        "big-data-names": list(keys),
        "big-data-sizes": {key: len(data) for key, data in keys.items()},
        "big-data-digests": {key: _digest(data) for key, data in keys.items()},
        "created": CREATED,
    }


def layer_record(base: Base) -> dict[str, Any]:
    """Return what stands in layers.json."""
    digest = f"sha256:{base.digest}"
    return {
        "id": base.digest,
        "created": CREATED,
        "compressed-diff-digest": digest,
        "compressed-size": 0,
        "diff-digest": digest,
        "diff-size": 0,
        "compression": 0,
    }


def file_of(key: str) -> str:
    """Return the file name under which the store keeps the data `key`."""
    if all(letter.isalnum() or letter in "-_." for letter in key):
        return key
    return "=" + base64.standard_b64encode(key.encode()).decode("ascii")


def layer_folder(root: Path, base: Base) -> Path:
    """Return where the base must be mounted."""
    return root / "overlay" / base.digest / "diff"


def write(root: Path, bases: Sequence[Base]) -> None:
    """Write the store of `bases` below `root`."""
    images, layers = [], []
    for base in bases:
        config = configuration(base)
        man = manifest(base, config)
        record = image_record(base, config, man)
        place = root / "overlay-images" / record["id"]
        place.mkdir(parents=True, exist_ok=True)
        for key, data in zip(record["big-data-names"], (man, man, config), strict=True):
            (place / file_of(key)).write_bytes(data)
        images.append(record)
        layers.append(layer_record(base))
        _layer(root, base)
    (root / "overlay-layers").mkdir(exist_ok=True)
    (root / "overlay-images" / "images.json").write_bytes(_json(images))
    (root / "overlay-layers" / "layers.json").write_bytes(_json(layers))
    for lock in ("overlay-images/images.lock", "overlay-layers/layers.lock"):
        (root / lock).touch()


def _layer(root: Path, base: Base) -> None:
    folder = layer_folder(root, base)
    folder.mkdir(parents=True, exist_ok=True)
    link = base.digest[:26].upper()
    (folder.parent / "link").write_text(link, "ascii")
    links = root / "overlay" / "l"
    links.mkdir(exist_ok=True)
    (links / link).symlink_to(f"../{base.digest}/diff")


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
