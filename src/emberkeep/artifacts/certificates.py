"""Read the file of certificates that base images shall trust as well."""

import hashlib
import ssl
from pathlib import Path

from emberkeep.artifacts.finish import certificates
from emberkeep.domain.errors import Invalid

_HINT = "images.extra_ca_file must name a file of PEM certificates (-----BEGIN CERTIFICATE-----)"


def digest_of(file: Path) -> str:
    """Return a digest of the certificates in `file`; `Invalid` if they cannot be used."""
    try:
        text = file.read_text(encoding="utf-8", errors="replace")
        found = certificates(text)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        for der in found:
            context.load_verify_locations(cadata=der)
    except OSError as cause:  # SSLError is one
        raise Invalid(f"cannot read the certificates in {file}: {cause}", hint=_HINT) from cause
    except ValueError as cause:
        raise Invalid(f"there is a broken certificate in {file}: {cause}", hint=_HINT) from cause
    if not found:
        raise Invalid(f"there is no certificate in {file}", hint=_HINT)
    return hashlib.sha256(b"".join(sorted(found))).hexdigest()
