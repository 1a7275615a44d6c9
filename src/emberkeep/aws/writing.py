"""Values of the model's shapes as JSON: one compiled writer for each shape.

`lambda-microvms` writes every member of a structure, null where there is none, and knows members
that are in no model; `lambda-core` leaves out what there is not (spec §2.1).
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from emberkeep.aws.models import CORE, Model, Shape

Writer = Callable[[Any], Any]

_RUN: Final = ("terminationReasonCode",)
_DETAIL: Final = ("buildPhaseOverrides", "id", "roleConfiguration")
_VERSION: Final = ("versionStateTimeBucket",)
# What recorded answers hold and no model names; scalars all (spec §2.3, §2.8, §2.10, §2.12).
UNMODELLED: Final[Mapping[str, tuple[str, ...]]] = {
    "RunMicrovmResponse": _RUN,
    "GetMicrovmResponse": _RUN,
    "CreateMicrovmImageResponse": _DETAIL,
    "UpdateMicrovmImageResponse": _DETAIL,
    "GetMicrovmImageOutput": ("id",),
    "MicrovmImageSummary": ("id",),
    "GetMicrovmImageVersionOutput": _VERSION,
    "MicrovmImageVersionSummary": _VERSION,
    "UpdateMicrovmImageVersionResponse": _VERSION,
    "GetMicrovmImageBuildOutput": _RUN,
    "MicrovmImageBuildSummary": _RUN,
}


class Writers:
    """The writers of one model, each made when it is first asked for."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._sparse = model.name == CORE
        self._made: dict[str, Writer] = {}

    def of(self, name: str) -> Writer:
        """Return the writer of a shape."""
        if name not in self._made:
            self._made[name] = self._make(self._model.shapes[name])
        return self._made[name]

    def _make(self, shape: Shape) -> Writer:
        match shape.kind:
            case "structure" if self._sparse or shape.union:
                return self._said(shape)
            case "structure":
                return self._all(shape)
            case "list":
                return _each(self.of(shape.item))
            case "map":
                return _values(self.of(shape.value))
            case "timestamp":
                return _iso if shape.iso else _epoch
            case _:
                return _same

    def _steps(self, shape: Shape) -> list[tuple[str, str, Writer]]:
        known = [
            (one.name, one.wire, self.of(one.shape))
            for one in shape.members.values()
            if one.location == "body"
        ]
        return known + [(name, name, _same) for name in UNMODELLED.get(shape.name, ())]

    def _all(self, shape: Shape) -> Writer:
        steps = self._steps(shape)

        def write(value: Mapping[str, Any]) -> Any:  # noqa: ANN401
            get = value.get
            return {
                wire: None if (one := get(name)) is None else writer(one)
                for name, wire, writer in steps
            }

        return write

    def _said(self, shape: Shape) -> Writer:
        steps = self._steps(shape)

        def write(value: Mapping[str, Any]) -> Any:  # noqa: ANN401
            get = value.get
            return {
                wire: writer(one) for name, wire, writer in steps if (one := get(name)) is not None
            }

        return write


def _each(writer: Writer) -> Writer:
    return list if writer is _same else lambda value: [writer(one) for one in value]


def _values(writer: Writer) -> Writer:
    return (
        dict if writer is _same else lambda value: {key: writer(one) for key, one in value.items()}
    )


def _same(value: Any) -> Any:  # noqa: ANN401
    return value


def _epoch(seconds: float) -> float:
    return round(seconds, 3)


def _iso(seconds: float) -> str:
    moment = datetime.fromtimestamp(seconds, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
