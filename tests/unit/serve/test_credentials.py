"""The access key: made once, kept, copied for users, and checked."""

import os
import re
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from emberkeep.domain.errors import Corrupt, Unavailable
from emberkeep.serve.config import Home, homes
from emberkeep.serve.credentials import Credentials, obtain

COPY = Path(".config/emberkeep/credentials")
URL = "http://127.0.0.1:9700"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    (tmp_path / "home").mkdir()
    return Home(path=tmp_path / "home", uid=os.geteuid(), gid=os.getegid())


def test_a_new_key_looks_like_one_of_aws():
    ours = Credentials.new()

    assert re.fullmatch(r"AKIA[A-Z2-7]{16}", ours.access_key_id)
    assert re.fullmatch(r"[A-Za-z0-9]{40}", ours.secret_access_key)
    assert ours != Credentials.new()


def test_the_secret_is_not_shown():
    ours = Credentials.new()

    assert ours.secret_access_key not in repr(ours)


def test_only_the_whole_token_is_accepted():
    ours = Credentials.new()

    assert ours.accepts(ours.token)
    for wrong in ("", ".", ours.access_key_id, ours.token[:-1], ours.token + "x", "é", "\udcff"):
        assert not ours.accepts(wrong)


def test_the_key_is_made_once(data: Path, home: Home):
    first = obtain(data, endpoint=URL, homes=[home])
    second = obtain(data, endpoint=URL, homes=[home])

    assert first == second


def test_the_files_hold_key_and_endpoint_for_their_owner_only(data: Path, home: Home):
    ours = obtain(data, endpoint=URL, homes=[home])

    for path in (data / "credentials", home.path / COPY):
        assert path.read_text() == (
            "[default]\n"
            f"aws_access_key_id = {ours.access_key_id}\n"
            f"aws_secret_access_key = {ours.secret_access_key}\n"
            f"endpoint_url = {URL}\n"
        )
        assert path.stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in data.iterdir()) == ["credentials"]
    assert (home.path / COPY).parent.stat().st_mode & 0o777 == 0o700


def test_a_new_endpoint_reaches_the_copies(data: Path, home: Home):
    ours = obtain(data, endpoint=URL, homes=[home])
    again = obtain(data, endpoint="http://127.0.0.1:1", homes=[home])

    assert again == ours
    assert "http://127.0.0.1:1\n" in (home.path / COPY).read_text()


@pytest.mark.parametrize(
    "content",
    ["", "[default]\n", "junk", "[default]\naws_access_key_id=a\naws_secret_access_key=b"],
)
def test_a_file_without_a_key_is_refused(data: Path, content: str):
    (data / "credentials").write_text(content)

    with pytest.raises(Corrupt, match="does not hold an access key"):
        obtain(data, endpoint=URL, homes=[])


def test_data_that_cannot_be_written_is_told(tmp_path: Path):
    with pytest.raises(Unavailable, match="cannot write"):
        obtain(tmp_path / "nowhere", endpoint=URL, homes=[])


def test_a_home_that_is_not_there_is_only_logged(data: Path, tmp_path: Path):
    with capture_logs() as logs:
        obtain(data, endpoint=URL, homes=[Home(path=tmp_path / "nowhere", uid=0, gid=0)])

    assert [line["event"] for line in logs] == ["credentials.not_left"]


def test_our_own_links_are_followed(data: Path, home: Home, tmp_path: Path):
    (tmp_path / "dotfiles").mkdir()
    (home.path / ".config").symlink_to(tmp_path / "dotfiles")
    obtain(data, endpoint=URL, homes=[home])

    assert (tmp_path / "dotfiles/emberkeep/credentials").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files away, so it must be root")
class TestSudo:
    @pytest.fixture
    def theirs(self, tmp_path: Path) -> Home:
        (tmp_path / "theirs").mkdir()
        os.chown(tmp_path / "theirs", 12345, 12346)
        return Home(path=tmp_path / "theirs", uid=12345, gid=12346)

    def test_the_copy_belongs_to_the_user(self, data: Path, theirs: Home):
        obtain(data, endpoint=URL, homes=[theirs])

        for path in (theirs.path / COPY, theirs.path / ".config"):
            assert (path.stat().st_uid, path.stat().st_gid) == (12345, 12346)

    @pytest.mark.parametrize("link", [".config", ".config/emberkeep"])
    def test_their_links_are_not_followed(
        self, data: Path, theirs: Home, tmp_path: Path, link: str
    ):
        (tmp_path / "precious").mkdir()
        (theirs.path / link).parent.mkdir(exist_ok=True)
        (theirs.path / link).symlink_to(tmp_path / "precious")
        with capture_logs() as logs:
            obtain(data, endpoint=URL, homes=[theirs])

        assert [line["event"] for line in logs] == ["credentials.not_left"]
        assert list((tmp_path / "precious").iterdir()) == []

    def test_a_link_in_place_of_the_file_is_replaced(
        self, data: Path, theirs: Home, tmp_path: Path
    ):
        (tmp_path / "precious").write_text("kept")
        (theirs.path / COPY).parent.mkdir(parents=True)
        (theirs.path / COPY).symlink_to(tmp_path / "precious")
        obtain(data, endpoint=URL, homes=[theirs])

        assert (tmp_path / "precious").read_text() == "kept"
        assert not (theirs.path / COPY).is_symlink()

    def test_the_one_who_called_sudo_has_a_home(self):
        found = homes({"HOME": "/root", "SUDO_UID": "1"})

        assert [one.uid for one in found] == [0, 1]
        assert homes({"HOME": "/root", "SUDO_UID": "4000000000"}) == found[:1]
        assert homes({"HOME": "/root", "SUDO_UID": "0"}) == found[:1]

    def test_a_home_that_sudo_kept_belongs_to_its_user(self):
        daemon = homes({"HOME": "/root", "SUDO_UID": "1"})[1]

        assert homes({"HOME": str(daemon.path), "SUDO_UID": "1"}) == [daemon]
