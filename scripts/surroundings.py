"""What of this host guests must be told, for `make run` and `make test`: prints shell exports.

Companies sign TLS anew, with an authority that only their hosts trust, and answer for package
registries from addresses of their own. Users configure that once (docs/configuration.md); a fresh
checkout finds it out: from the bundle of authorities that the environment names, and from where
the registries' names lead. What is set already stays.
"""

# The environment is what this is about.
# ruff: noqa: TID251

import ipaddress
import os
import shlex
import socket
from pathlib import Path

REGISTRIES = ("pypi.org", "files.pythonhosted.org", "deb.debian.org", "registry.npmjs.org")


def found() -> dict[str, str]:
    """Return the settings, as variables, that this host makes necessary."""
    settings = {}
    bundle = os.environ.get("SSL_CERT_FILE", "")
    if bundle and Path(bundle).is_file():
        settings["EMBERKEEP_EXTRA_CA_FILE"] = bundle
    mirrors = sorted({address for name in REGISTRIES for address in private(name)})
    if mirrors:
        settings["EMBERKEEP_NETWORK_INTERNET_ALSO"] = " ".join(mirrors)
    return {name: value for name, value in settings.items() if not os.environ.get(name)}


def private(name: str) -> set[str]:
    """Return those addresses of `name` that are not of the public Internet."""
    try:
        answers = socket.getaddrinfo(name, 443, type=socket.SOCK_STREAM)
    except OSError:
        return set()
    addresses = {str(answer[4][0]) for answer in answers}
    return {one for one in addresses if not ipaddress.ip_address(one).is_global}


if __name__ == "__main__":
    for variable, value in found().items():
        print(f"export {variable}={shlex.quote(value)}")
