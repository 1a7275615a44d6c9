"""Inputs that cannot become images, each with what the build must say of it."""

import io
import stat
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from emberkeep_sdk import Hooks

_SERVER: Final = """
import http.server, sys, threading, time
where, begun = sys.argv[1], time.monotonic()
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        hook = self.path.rpartition("/")[2]
        print("asked for", hook, "which is to be", where, flush=True)
        if where == f"{hook}-hangs":
            threading.Event().wait()
        self.send_response(int(where.partition("=")[2]) if where.startswith(hook) else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer(("", 8080), Handler).serve_forever()
"""
_APP: Final = 'FROM debian-12\nCOPY app.py /app.py\nCMD ["python3", "/app.py", "{}"]\n'
_READY: Final = Hooks(port=8080, ready=30)


AL2023: Final = "public.ecr.aws/lambda/microvms:al2023-minimal"


@dataclass(frozen=True, kw_only=True)
class Broken:
    """One input: a zip, or an object of S3."""

    name: str
    code: str  # of the failure
    says: tuple[str, ...]  # what the reason has, for people
    content: Callable[[], bytes] | None = None
    uri: str | None = None
    hooks: Hooks | None = None
    logged: str = ""  # what the log has, beside the reason

    def __str__(self) -> str:
        return self.name


def archive(files: Mapping[str, str | bytes], *, mode: int = stat.S_IFREG | 0o644) -> bytes:
    """Return a zip of `files`."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as target:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name)
            entry.create_system, entry.external_attr = 3, mode << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            target.writestr(entry, content)
    return made.getvalue()


def _dockerfile(text: str) -> Callable[[], bytes]:
    return lambda: archive({"Dockerfile": text, "app.py": _SERVER})


def _app(way: str) -> Callable[[], bytes]:
    return _dockerfile(_APP.format(way))


def _corrupt() -> bytes:
    good = bytearray(archive({"Dockerfile": "FROM debian-12\n" * 500}))
    good[60:90] = bytes(30)
    return bytes(good)


_CONTAINER: Final = "CONTAINER_BUILD_FAILED"

ARCHIVES: Final = (
    Broken(
        name="no Dockerfile",
        code="ARCHIVE_DOCKERFILE_NOT_FOUND",
        says=("no Dockerfile at the root", "app.py"),
        content=lambda: archive({"app.py": "print()"}),
    ),
    Broken(
        name="nested Dockerfile",
        code="ARCHIVE_DOCKERFILE_NOT_FOUND",
        says=("in a folder", "app/Dockerfile"),
        content=lambda: archive({"app/Dockerfile": "FROM debian-12\n"}),
    ),
    Broken(
        name="corrupt zip",
        code="ARCHIVE_INVALID",
        says=("not a zip that can be read",),
        content=_corrupt,
    ),
    Broken(
        name="zip bomb",
        code="ARCHIVE_INVALID",
        says=("zip bomb",),
        content=lambda: archive({"Dockerfile": "FROM debian-12\n", "zeros": bytes(200 << 20)}),
    ),
    Broken(
        name="traversal entry",
        code="ARCHIVE_INVALID",
        says=("leads out of the archive", "../../etc/passwd"),
        content=lambda: archive({"Dockerfile": "FROM debian-12\n", "../../etc/passwd": "x"}),
    ),
)
DOCKERFILES: Final = (
    Broken(
        name="failing RUN",
        code=_CONTAINER,
        says=("RUN echo before the end && exit 7", "status 7", "before the end"),
        content=_dockerfile("FROM debian-12\nRUN echo before the end && exit 7\n"),
        logged="STEP 2/2: RUN",
    ),
    Broken(
        name="RUN that fills the disk",
        code="DISK_STORAGE_FULL",
        says=("disk",),
        content=_dockerfile("FROM debian-12\nRUN dd if=/dev/zero of=/big bs=1M\n"),
        logged="No space left on device",
    ),
    Broken(
        name="RUN that never ends",
        code=_CONTAINER,
        says=("longer than", "limit"),
        content=_dockerfile("FROM debian-12\nRUN echo waiting; sleep 1000000\n"),
        logged="waiting",
    ),
    Broken(
        name="missing CMD",
        code=_CONTAINER,
        says=("CMD",),
        content=_dockerfile("FROM debian-12\nCOPY app.py /\n"),
        logged="STEP 2/2: COPY",
    ),
    Broken(
        name="unknown base",
        code=_CONTAINER,
        says=("no-such-base-of-anybody",),
        content=_dockerfile("FROM no-such-base-of-anybody\nCMD true\n"),
    ),
    Broken(
        name="unreachable registry",
        code=_CONTAINER,
        says=("192.0.2.1",),
        content=_dockerfile("FROM 192.0.2.1:5000/nobody/nothing:1\nCMD true\n"),
    ),
    Broken(
        name="dnf on Debian",
        code=_CONTAINER,
        says=("written for Amazon Linux 2023", "calls dnf", "stand-in", "debian-12"),
        content=_dockerfile(f"FROM {AL2023}\nRUN dnf install -y python3.12\nCMD python3.12\n"),
    ),
)
APPLICATIONS: Final = (
    Broken(
        name="CMD that exits",
        code=_CONTAINER,
        says=("exit code 3", "last words"),
        content=_dockerfile("FROM debian-12\nCMD echo last words; exit 3\n"),
        hooks=_READY,
    ),
    Broken(
        name="ready 500",
        code=_CONTAINER,
        says=("Ready hook", "5xx"),
        content=_app("ready=500"),
        hooks=_READY,
        logged="asked for ready",
    ),
    Broken(
        name="ready never",
        code=_CONTAINER,
        says=("Ready hook", "timed out", "has not answered"),
        content=_app("ready-hangs"),
        hooks=_READY,
    ),
    Broken(
        name="ready slow 503s",
        code=_CONTAINER,
        says=("Ready hook", "timed out", "503"),
        content=_app("ready=503"),
        hooks=_READY,
    ),
    Broken(
        name="validate fails",
        code=_CONTAINER,
        says=("Validate hook", "5xx"),
        content=_app("validate=500"),
        hooks=Hooks(port=8080, ready=60, validate=20),
    ),
    Broken(
        name="wrong hook port",
        code=_CONTAINER,
        says=("nobody listened on port 9999", "hook port"),
        content=_app("ready=200"),
        hooks=Hooks(port=9999, ready=15),
    ),
)
OBJECTS: Final = (
    Broken(
        name="S3 missing key",
        code="S3_NO_SUCH_KEY",
        says=("nothing-here.zip",),
        uri="s3://some-bucket/nothing-here.zip",
    ),
    Broken(
        name="S3 missing bucket",
        code="S3_NO_SUCH_BUCKET",
        says=("no-such-bucket",),
        uri="s3://no-such-bucket/app.zip",
    ),
    Broken(
        name="S3 denied",
        code="S3_ACCESS_DENIED",
        says=("denied-bucket",),
        uri="s3://denied-bucket/app.zip",
    ),
)
