"""Finish a new base image; runs inside it, as its root, by its own Python.

It adds the certificates of /tmp/extra.pem to what the image trusts, lets pip install without
ceremony and apt without caches, and makes the start of Python independent of the times of files.
"""

import hashlib
import ssl
import subprocess  # noqa: TID251  it runs in the image
from pathlib import Path

_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
_EXTRA = Path("/tmp/extra.pem")  # noqa: S108  put there by mmdebstrap, in a root that is nobody's yet
_OWN = Path("/usr/local/share/ca-certificates")
_PIP = """\
# The system's Python of a microVM is its user's; a virtual environment works as well.
[global]
break-system-packages = true
root-user-action = ignore
"""
# no translations, and no caches of lists that are used once: `apt-get update` takes half the time
_APT = """\
Acquire::Languages "none";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
"""
_FILES = {"pip.conf": _PIP, "apt/apt.conf.d/90microvm": _APT}
# what the machine it was made on left there, and what a container's own are mounted over
_NETWORK = {
    "hostname": "microvm\n",
    "resolv.conf": "",
    "machine-id": "",
    "hosts": "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n",
}
_BEGIN, _END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
_UNCHECKED = 1


def certificates(text: str) -> list[bytes]:
    """Return the certificates of a PEM text, each once."""
    blocks = [part.partition(_END)[0] for part in text.split(_BEGIN)[1:]]
    return list(dict.fromkeys(ssl.PEM_cert_to_DER_cert(_BEGIN + it + _END) for it in blocks))


def trust(extra: Path) -> None:
    """Add those certificates of `extra` that the image does not trust already."""
    known = set(certificates(_BUNDLE.read_text(encoding="utf-8")))
    _OWN.mkdir(parents=True, exist_ok=True)
    for der in certificates(extra.read_text(encoding="utf-8", errors="replace")):
        if der not in known:
            name = f"extra-{hashlib.sha256(der).hexdigest()[:16]}.crt"
            (_OWN / name).write_text(ssl.DER_cert_to_PEM_cert(der), encoding="ascii")
    subprocess.run(["update-ca-certificates"], check=True)  # noqa: S607


def seal(folder: Path) -> None:
    """Mark compiled modules as good whatever the times say (PEP 552); the packages keep them so."""
    for file in folder.rglob("__pycache__/*.pyc"):
        with file.open("r+b") as compiled:
            flags = int.from_bytes(compiled.read(8)[4:], "little")
            if flags:  # compiled by hash, as SOURCE_DATE_EPOCH asks for
                compiled.seek(4)
                compiled.write(_UNCHECKED.to_bytes(4, "little"))


def main() -> None:
    """Do all of it and leave no trace."""
    if _EXTRA.exists():
        trust(_EXTRA)
        _EXTRA.unlink()
    for name, text in {**_NETWORK, **_FILES}.items():
        file = Path("/etc") / name
        file.unlink(missing_ok=True)
        file.write_text(text, encoding="ascii")
        file.chmod(0o644)
    seal(Path("/usr/lib"))
    Path(__file__).unlink()


if __name__ == "__main__":
    main()
