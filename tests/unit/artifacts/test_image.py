"""The base image: how it is made and how it is finished."""

import importlib.util
import ssl
from pathlib import Path

import pytest

from emberkeep.artifacts import certificates, finish, image, setup
from emberkeep.artifacts.erofs import mkfs_argv
from emberkeep.artifacts.packages import Mirror
from emberkeep.base import proc
from emberkeep.domain.errors import Invalid

MIRROR = Mirror(archive="http://a/debian", security="")


@pytest.fixture(scope="module")
def pem(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("ca")
    proc.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-nodes", "-subj", "/CN=test", "-keyout", f"{folder}/key", "-out", f"{folder}/ca.pem"],
    )  # fmt: skip
    return (folder / "ca.pem").read_text()


def test_the_file_of_certificates_goes_into_the_image():
    argv = image.mmdebstrap_argv(
        Path("/t/image.tar"), MIRROR, certificates=Path("/my ca.pem"), apt_options=['A "b"']
    )

    assert "--customize-hook=upload '/my ca.pem' /tmp/extra.pem" in argv
    assert '--aptopt=A "b"' in argv
    assert argv[-2:] == list(MIRROR.sources)


def test_without_one_nothing_is_uploaded_but_the_finish():
    argv = image.mmdebstrap_argv(Path("/t"), MIRROR, certificates=None, apt_options=[])

    assert sum("upload" in word for word in argv) == 1


def test_progress_is_read_from_what_mmdebstrap_says():
    assert image.phase("I: installing essential packages...") == 0.3
    assert image.phase("I: anything else") is None


def test_a_file_system_of_the_same_inputs_has_the_same_id():
    one, two, other = (
        mkfs_argv("i", "r", inputs=inputs, all_root=True) for inputs in ("a", "a", "b")
    )

    assert one == two != other


def test_the_digest_of_certificates_is_of_nothing_else(tmp_path, pem):
    (tmp_path / "a").write_text(pem)
    (tmp_path / "b").write_text(f"# a comment\n{pem}\n{pem}")

    assert certificates.digest_of(tmp_path / "a") == certificates.digest_of(tmp_path / "b")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nothing", "no certificate"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "cannot read"),
        ("-----BEGIN CERTIFICATE-----\nA\n-----END CERTIFICATE-----\n", "broken"),
    ],
)
def test_a_file_without_a_good_certificate_is_refused(tmp_path, text, message):
    (tmp_path / "bad").write_text(text)

    with pytest.raises(Invalid, match=message) as caught:
        certificates.digest_of(tmp_path / "bad")

    assert "extra_ca_file" in caught.value.hint


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(Invalid, match="No such file"):
        certificates.digest_of(tmp_path / "none")


def test_only_certificates_that_the_image_lacks_are_added(tmp_path, pem, monkeypatch):
    known = pem
    bundle, own, extra = tmp_path / "bundle", tmp_path / "own", tmp_path / "extra"
    bundle.write_text(known)
    extra.write_text(known)
    monkeypatch.setattr(finish, "_BUNDLE", bundle)
    monkeypatch.setattr(finish, "_OWN", own)
    monkeypatch.setattr(finish.subprocess, "run", lambda *_, **__: None)

    finish.trust(extra)
    nothing_new = list(own.iterdir())
    bundle.write_text("")
    finish.trust(extra)

    assert nothing_new == []
    (added,) = own.iterdir()
    assert finish.certificates(added.read_text()) == [ssl.PEM_cert_to_DER_cert(known.strip())]


def test_modules_compiled_by_hash_are_no_longer_checked(tmp_path):
    cache = tmp_path / "__pycache__"
    cache.mkdir()
    magic = importlib.util.MAGIC_NUMBER
    (cache / "checked.pyc").write_bytes(magic + b"\3\0\0\0" + b"hash")
    (cache / "timed.pyc").write_bytes(magic + b"\0\0\0\0" + b"time")

    finish.seal(tmp_path)

    assert (cache / "checked.pyc").read_bytes() == magic + b"\1\0\0\0" + b"hash"
    assert (cache / "timed.pyc").read_bytes() == magic + b"\0\0\0\0" + b"time"


def test_the_agents_package_is_found_without_running_it():
    for name in ("emberkeep_guest", "emberkeep_builder"):
        assert (setup.package(name) / "__init__.py").is_file()
