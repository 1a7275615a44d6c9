"""Where the server is and how to be let in."""

from pathlib import Path

import pytest

from emberkeep_sdk import Invalid, find_access

FILE = """\
[default]
aws_access_key_id = AKIA1
aws_secret_access_key = filed%secret
endpoint_url = http://10.0.0.7:9700/
"""


def home(tmp_path: Path, text: str) -> dict[str, str]:
    path = tmp_path / ".config" / "emberkeep" / "credentials"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    return {"HOME": str(tmp_path)}


def test_without_anything_it_is_the_default_server(tmp_path: Path):
    access = find_access(environ={"HOME": str(tmp_path)})

    assert access.endpoint == "http://127.0.0.1:9700"
    assert access.headers == {}


def test_the_file_gives_endpoint_and_key(tmp_path: Path):
    access = find_access(environ=home(tmp_path, FILE))

    assert access.endpoint == "http://10.0.0.7:9700"
    assert access.headers == {"Authorization": "Bearer AKIA1.filed%secret"}


def test_variables_go_before_the_file_and_arguments_before_both(tmp_path: Path):
    environ = home(tmp_path, FILE) | {
        "EMBERKEEP_ENDPOINT": "https://keep.example",
        "EMBERKEEP_API_KEY": "K.variable",
    }

    assert find_access(environ=environ).api_key == "K.variable"
    assert find_access(environ=environ).websocket == "wss://keep.example"
    assert find_access("http://h:1", "K.argument", environ=environ).api_key == "K.argument"


def test_the_key_of_the_file_is_not_sent_to_another_host(tmp_path: Path):
    environ = home(tmp_path, FILE)

    assert find_access("http://elsewhere.example", environ=environ).api_key is None
    assert find_access("http://127.0.0.1:9999", environ=environ).api_key == "AKIA1.filed%secret"


@pytest.mark.parametrize("text", ["no section", "[default\n", "[default]\nx"])
def test_a_damaged_file_is_named(tmp_path: Path, text: str):
    with pytest.raises(Invalid, match="credentials"):
        find_access(environ=home(tmp_path, text))


def test_what_is_no_endpoint_is_refused():
    with pytest.raises(Invalid, match="not an endpoint"):
        find_access("127.0.0.1:9700", environ={})


def test_a_key_is_not_shown():
    assert "secret" not in repr(find_access("http://h", "A.secret", environ={}))
