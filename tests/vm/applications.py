"""MicroVMs with applications of usual libraries in them, as tests/vm and tests/bars want them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from emberkeep_sdk import Emberkeep, Ingress, MicroVM

_APPLICATION: Final = Path(__file__).with_name("application.py")
PORTS: Final = {"sockets": 9001, "calls": 50051}
_LIBRARIES: Final = {"sockets": ("websockets",), "calls": ("grpc", "typing_extensions")}


@contextmanager
def application(
    ek: Emberkeep, image: str, *what: str, public_ports: Sequence[int] = ()
) -> Iterator[MicroVM]:
    """Launch a microVM with a page on 8080 and `what`, and wait until all of it listens."""
    ingress = Ingress(token_life_s=86400, public_ports=public_ports)
    with ek.launch(image, ingress=ingress) as vm:
        for name in {one for each in what for one in _LIBRARIES[each]}:
            found = find_spec(name)
            assert found is not None
            assert found.origin is not None
            where = Path(found.origin)
            local = where.parent if found.submodule_search_locations else where
            vm.files.upload(local, f"/srv/{local.name}")
        vm.files.write("/srv/application.py", _APPLICATION.read_bytes())
        started = f"setsid python3 /srv/application.py {' '.join(what)} >/tmp/app.log 2>&1 &"
        vm.exec(started, check=True)
        for port in (8080, *(PORTS[one] for one in what)):
            vm.exec(
                f"until python3 -c 'import socket; socket.create_connection((\"127.0.0.1\","
                f" {port}))' 2>/dev/null; do sleep 0.3; done",
                timeout=180, check=True,
            )  # fmt: skip
        yield vm
