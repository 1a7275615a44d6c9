"""The client: what can be asked of a server."""

from collections.abc import Generator, Sequence
from types import TracebackType
from typing import Any, Self

import msgspec

from emberkeep_sdk._access import find_access
from emberkeep_sdk._sse import Messages
from emberkeep_sdk._sync.http import Http, as_type, path_of
from emberkeep_sdk._sync.images import Images
from emberkeep_sdk._sync.keys import Keys
from emberkeep_sdk._sync.microvm import MicroVM
from emberkeep_sdk._values import (
    Happening,
    Ingress,
    MicroVMFacts,
    Usage,
    egress_policy,
    memory_mib,
)


class Emberkeep:
    """A client of one server.

    Endpoint and key are the arguments, else EMBERKEEP_ENDPOINT and EMBERKEEP_API_KEY, else what
    the server left in ~/.config/emberkeep/credentials, else http://127.0.0.1:9700.
    """

    def __init__(self, endpoint: str | None = None, *, api_key: str | None = None) -> None:
        self._http = Http(find_access(endpoint, api_key))
        self.images = Images(self._http)
        self.keys = Keys(self._http)

    @property
    def endpoint(self) -> str:
        """The server's address."""
        return self._http.access.endpoint

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; microVMs go on."""
        self._http.close()

    def launch(  # noqa: PLR0913  the words of a launch
        self,
        image: str,
        *,
        memory: int | str | None = None,
        vcpus: int | None = None,
        name: str | None = None,
        egress: str | Sequence[str] | None = None,
        ingress: Ingress | None = None,
        role: str | None = None,
        payload: str | None = None,
    ) -> MicroVM:
        """Launch a microVM from `image`; `memory` is in MiB, or text such as "2 GiB".

        `egress` is what it may reach: "internet" (public addresses), "none", or a list of
        destinations such as "203.0.113.0/24:443/tcp"; `ingress` how it can be reached itself;
        `role` whose temporary credentials its metadata service tells, as the server knows it;
        `payload` what its run hook is given.

        As a context manager it is terminated at the end of the block.
        """
        wanted = {
            "image": image,
            "name": name,
            "memory_mib": memory_mib(memory),
            "vcpus": vcpus,
            "egress": egress_policy(egress),
            "execution_role": role,
            "payload": payload,
            **(ingress.body() if ingress else {}),
        }
        body = {key: value for key, value in wanted.items() if value is not None}
        return self._microvm(self._http.call("POST", path_of("microvms"), body=body))

    def get(self, ref: str) -> MicroVM:
        """Return the microVM of this id, unique beginning of an id, or name."""
        return self._microvm(self._http.call("GET", path_of("microvms", ref)))

    def authority(self) -> str:
        """Return the certificate (PEM) that clients of endpoints must trust."""
        return self._http.text(path_of("ca"))

    def events(
        self, *, microvm: str | None = None, after: int | None = None, limit: int = 100
    ) -> list[Happening]:
        """Return what has happened: the latest, or the first behind the place `after`."""
        given = {"microvm": microvm, "after": after, "limit": limit}
        params = {name: value for name, value in given.items() if value is not None}
        answer = self._http.call("GET", path_of("events"), params=params)
        found = answer.get("events", []) if isinstance(answer, dict) else answer
        return [as_type(one, Happening) for one in as_type(found, list[Any])]

    def follow(
        self, *, microvm: str | None = None, after: int | None = None
    ) -> Generator[Happening]:
        """Yield what happens as it happens, from behind place `after`; until the server ends."""
        params = {"microvm": microvm, "after": after}
        messages = Messages()
        with self._http.download(path_of("events", "stream"), params=params) as pieces:
            for piece in pieces:
                for data in messages.feed(piece):
                    yield as_type(msgspec.json.decode(data), Happening)

    def usage(self, *, since: str | None = None, until: str | None = None) -> list[Usage]:
        """Return what was used, by day ("2026-11-22", UTC) and image; the last 30 days if not said.

        What still runs, or sleeps, is included up to this moment.
        """
        params = {"since": since, "until": until}
        answer = self._http.call("GET", path_of("usage"), params=params)
        return [as_type(one, Usage) for one in as_type(answer, dict[str, Any]).get("usage", [])]

    def metrics(self) -> str:
        """Return the metrics of the server, as Prometheus reads them."""
        return self._http.text("/metrics")

    def status(self) -> dict[str, Any]:
        """Return what the server says about itself."""
        return as_type(self._http.call("GET", path_of("status")), dict[str, Any])

    def limits(self) -> dict[str, Any]:
        """Return what the account, the host and one microVM may have, and what is in use."""
        return as_type(self._http.call("GET", path_of("limits")), dict[str, Any])

    def console_url(self) -> str:
        """Return where a browser is let into the console, once and within two minutes."""
        answer = as_type(self._http.call("POST", "/console/codes"), dict[str, Any])
        return f"{self.endpoint}/console/#code={answer.get('code', '')}"

    def shutdown(self, *, microvms: str = "suspend") -> None:
        """End the server; its microVMs are suspended, or terminated with microvms="terminate"."""
        self._http.call("POST", path_of("shutdown"), body={"microvms": microvms})

    def _microvm(self, answer: object) -> MicroVM:
        return MicroVM(self._http, as_type(answer, MicroVMFacts))

    def list(self, *, everything: bool = False) -> list[MicroVM]:
        """Return the live microVMs; with `everything` also those that ended in the last day."""
        params = {"all": "true"} if everything else None
        answer = self._http.call("GET", path_of("microvms"), params=params)
        found = answer.get("microvms", []) if isinstance(answer, dict) else answer
        return [self._microvm(one) for one in as_type(found, list[Any])]
