"""Reads what buildah has built from its store: the layers above the base, and the configuration."""

import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from emberkeep_builder.job import Failed
from emberkeep_builder.store import file_of

_KNOWN: Final = ("Entrypoint", "Cmd", "Env", "WorkingDir", "User", "ExposedPorts", "Labels")


@dataclass(frozen=True)
class Built:
    """An image in the store."""

    layers: tuple[str, ...]  # their folders, the lowest first; without the base's
    base: str | None  # the layer of the managed base below them
    config: dict[str, Any]


def read(storage: Path, image_id: str, bases: Collection[str]) -> Built:
    """Return the image; `bases` are the layers of the managed bases."""
    images = _list(storage / "overlay-images" / "images.json")
    image = next(it for it in images if it["id"] == image_id)
    parents = {
        it["id"]: it.get("parent", "") for it in _list(storage / "overlay-layers" / "layers.json")
    }
    chain, layer, base = [], image.get("layer", ""), None
    while layer and base is None:
        if layer in bases:
            base = layer
        else:
            chain.append(str(storage / "overlay" / layer / "diff"))
            layer = parents[layer]
    file = storage / "overlay-images" / image_id / file_of(f"sha256:{image_id}")
    config = json.loads(file.read_bytes()).get("config") or {}
    return Built(tuple(reversed(chain)), base, config)


def checked(config: dict[str, Any]) -> dict[str, Any]:
    """Return of a configuration what a microVM uses; `Failed` where nothing says what to run."""
    if not config.get("Entrypoint") and not config.get("Cmd"):
        raise Failed(
            "CONTAINER_BUILD_FAILED",
            "the image says nothing to run: add CMD or ENTRYPOINT to the Dockerfile"
            " (a managed base has none of its own)",
        )
    return {name: config[name] for name in _KNOWN if config.get(name)}


def notes(config: dict[str, Any]) -> tuple[str, ...]:
    """Return what of the configuration has no effect, for people."""
    found = []
    if config.get("Healthcheck"):
        found.append("HEALTHCHECK has no effect: use the ready and validate hooks")
    if config.get("Volumes"):
        found.append("VOLUME has no effect: the whole root file system is the microVM's own")
    if config.get("StopSignal"):
        found.append("STOPSIGNAL has no effect: use the terminate hook")
    return tuple(found)


def _list(path: Path) -> list[dict[str, Any]]:
    found = json.loads(path.read_bytes())
    return found if isinstance(found, list) else []
