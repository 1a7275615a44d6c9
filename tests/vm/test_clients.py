"""Usual clients through the endpoint of a real microVM: requests, httpx, websockets."""

import ssl
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import requests
import websockets
from websockets.sync.client import connect

from emberkeep_sdk import Emberkeep, MicroVM
from tests.vm.applications import PORTS, application
from tests.vm.conftest import IMAGE

pytestmark = pytest.mark.vm


@pytest.fixture(scope="module")
def app(ek: Emberkeep) -> Iterator[MicroVM]:
    """Return a microVM with a page and a WebSocket server."""
    with application(ek, IMAGE, "sockets") as vm:
        yield vm


@pytest.fixture(scope="module")
def pem(ek: Emberkeep, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file with the certificate to trust."""
    path = tmp_path_factory.mktemp("trust") / "ca.pem"
    path.write_text(ek.authority())
    return path


def test_requests(app: MicroVM, pem: Path):
    with requests.Session() as session:
        session.trust_env = False
        session.verify = str(pem)
        session.headers.update(app.token().headers)
        for number in range(3):
            assert session.get(f"{app.url}/{number}", timeout=60).text == f"/{number}"
        body = b"words " * 50_000
        assert session.post(app.url, data=body, timeout=60).content == body.upper()
    refused = requests.get(app.url, verify=str(pem), timeout=60, proxies={"no": "proxy"})
    assert (refused.status_code, refused.text) == (403, "Request missing authentication")


@pytest.mark.parametrize("version", ["HTTP/1.1", "HTTP/2"])
def test_httpx(app: MicroVM, pem: Path, version: str):
    trust = ssl.create_default_context(cafile=pem)
    with httpx.Client(
        verify=trust, trust_env=False, timeout=60, headers=app.token().headers,
        http1=version == "HTTP/1.1", http2=version == "HTTP/2",
    ) as client:  # fmt: skip
        answer = client.get(f"{app.url}/one")
        assert (answer.text, answer.http_version) == ("/one", version)
        body = b"words " * 50_000
        assert client.post(app.url, content=body).content == body.upper()
        denied = client.get(app.url, headers=app.token(9999).headers)
        assert (denied.status_code, denied.text) == (403, "Access to port denied")


def test_websockets(app: MicroVM, pem: Path):
    port = PORTS["sockets"]
    offered = [
        "lambda-microvms", f"lambda-microvms.authentication.{app.token(port).token}",
        f"lambda-microvms.port.{port}",
    ]  # fmt: skip
    url, trust = app.url.replace("https", "wss"), ssl.create_default_context(cafile=pem)
    with connect(url, ssl=trust, subprotocols=[*offered, "chat"], proxy=None) as socket:
        assert socket.subprotocol == "chat"
        for message in ("grüße", b"bytes", "x" * 300_000):
            socket.send(message)
            assert socket.recv(60) == message
        app.suspend()
        with pytest.raises(websockets.ConnectionClosed):
            socket.recv(60)
    headers = {**app.token(port).headers, "X-aws-proxy-port": str(port)}
    with connect(url, ssl=trust, additional_headers=headers, proxy=None) as socket:  # it wakes
        assert socket.subprotocol is None
        socket.send("awake")
        assert socket.recv(60) == "awake"
