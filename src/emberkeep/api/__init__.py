"""Our own API over HTTP: `/v1/…`, described by `/openapi.json` and `docs/api.md`."""

from emberkeep.api.app import SERVER_OPTIONS, build_app
from emberkeep.api.context import Shutdown

__all__ = ["SERVER_OPTIONS", "Shutdown", "build_app"]
