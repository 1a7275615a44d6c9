"""Credentials of roles: where they come from, when they are due, what a microVM is shown."""

# ruff: noqa: S106  no secret of anybody

import json
from datetime import UTC, datetime

import msgspec
import pytest

from emberkeep.domain.errors import Invalid
from emberkeep.domain.roles import Credentials, Role, Secret, document, fixed, printed

NOW = datetime(2026, 1, 31, 12, 0, tzinfo=UTC).timestamp()


def credentials(*, lifetime_s: float = 3600) -> Credentials:
    return Credentials(
        access_key_id="AKIA1", secret_access_key="hidden", session_token="hidden too",
        obtained_at=NOW, expires_at=NOW + lifetime_s,
    )  # fmt: skip


def test_no_secret_is_in_any_representation():
    role = Role(access_key_id="AKIA1", secret_access_key=Secret("hidden"))

    assert "hidden" not in f"{role!r} {role} {credentials()!r} { {'ci': role} }"


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"access_key_id": "AKIA1"},
        {"secret_access_key": Secret("s")},
        {"command": ("x",), "access_key_id": "AKIA1", "secret_access_key": Secret("s")},
        {"command": ("x",), "expires": datetime(2026, 1, 1, tzinfo=UTC)},
    ],
)
def test_a_role_is_either_fixed_or_a_command(given: dict[str, object]):
    with pytest.raises(ValueError, match="or a command"):
        Role(**given)  # type: ignore[arg-type]


def test_a_key_that_nobody_knows_is_refused():
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"command": ["x"], "profile": "y"}, Role)


def test_fixed_credentials_without_an_end_are_shown_with_one():
    role = Role(access_key_id="AKIA1", secret_access_key=Secret("s"))

    assert fixed(role, NOW).document() == {
        "AccessKeyId": "AKIA1", "SecretAccessKey": "s", "Token": "",
        "LastUpdated": "2026-01-31T12:00:00Z", "Expiration": "2026-01-31T12:55:00Z",
    }  # fmt: skip


@pytest.mark.parametrize(
    "told", ["2026-01-31T13:00:00Z", "2026-01-31T14:00:00+01:00", "2026-01-31T13:00:00"]
)
def test_a_command_prints_what_aws_tools_print(told: str):
    text = json.dumps(
        {"Version": 1, "AccessKeyId": "ASIA1", "SecretAccessKey": "s", "SessionToken": "t",
         "Expiration": told, "AccountId": "000000000000"}
    )  # fmt: skip

    found = printed(text, NOW)

    assert found == Credentials(
        access_key_id="ASIA1", secret_access_key="s", session_token="t", obtained_at=NOW,
        expires_at=NOW + 3600,
    )  # fmt: skip


@pytest.mark.parametrize("text", ["", "null", "[]", '{"Version": 1}', '{"secret": "hidden"'])
def test_what_is_no_credentials_is_refused_and_not_repeated(text: str):
    with pytest.raises(Invalid) as refused:
        printed(text, NOW)

    assert "hidden" not in str(refused.value)


@pytest.mark.parametrize(
    ("lifetime_s", "after_s", "due"),
    [(3600, 2300, False), (3600, 2500, True), (600, 200, False), (600, 400, True)],
)
def test_they_are_due_well_before_their_end(lifetime_s: float, after_s: float, due: bool):  # noqa: FBT001
    assert credentials(lifetime_s=lifetime_s).due(NOW + after_s) is due


def test_a_microvm_without_a_role_is_shown_no_credentials():
    about = {"microvm_id": "microvm-1", "hostname": "web", "image": "debian-12"}
    bare = json.loads(document(about, region="us-east-1", account="0" * 12, credentials=None))
    full = json.loads(
        document(about, region="us-east-1", account="0" * 12, credentials=credentials())
    )

    assert bare == {**about, "region": "us-east-1", "account": "000000000000"}
    assert full == {**bare, "credentials": credentials().document()}
