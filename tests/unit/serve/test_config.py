"""Where settings come from, and how wrong ones are told."""

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from emberkeep.domain.errors import Invalid
from emberkeep.serve import config
from emberkeep.serve.config import Address, Settings
from emberkeep.vmm.settings import VmmSettings

DOCS = Path(__file__).parents[3] / "docs" / "configuration.md"


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def load(overrides: dict[str, object] | None = None, **environ: str) -> Settings:
    home = {"HOME": str(Path.cwd() / "home")}
    if "EMBERKEEP_DATA" not in environ:
        environ["EMBERKEEP_DATA"] = str(Path.cwd() / "data")
    return config.load(overrides, environ=home | environ, system_file=Path.cwd() / "system.toml")


def test_nothing_said_means_the_defaults(tmp_path: Path):
    assert load() == Settings(data=tmp_path / "data")


def test_the_file_is_read(tmp_path: Path):
    (tmp_path / "emberkeep.toml").write_text(
        'listen = "0.0.0.0:80"\nendpoint = "https://keep.example"\n'
        '[vmm]\naccelerator = "tcg"\nvisible = ["/opt/a", "b"]\nkernel = "vmlinuz"\n'
        "[images]\n[node]\nhealth_interval_s = 2\n"
    )
    settings = load()

    assert settings.listen == Address("0.0.0.0", 80)  # noqa: S104  an example
    assert settings.url == "https://keep.example"
    assert settings.vmm == VmmSettings(
        accelerator="tcg",
        visible=(Path("/opt/a"), tmp_path / "b"),
        kernel=tmp_path / "vmlinuz",
    )
    assert settings.node.health_interval_s == 2


def test_options_win_over_variables_and_these_over_the_file(tmp_path: Path):
    (tmp_path / "emberkeep.toml").write_text('[vmm]\nqemu = "file"\ncpu = "file"\nmachine = "q35"')
    settings = load(
        {"vmm.qemu": "option", "vmm.cpu": None},
        EMBERKEEP_VMM_QEMU="variable",
        EMBERKEEP_VMM_CPU="variable",
    )

    assert (settings.vmm.qemu, settings.vmm.cpu, settings.vmm.machine) == (
        "option",
        "variable",
        "q35",
    )


def test_the_first_file_that_exists_is_the_one(tmp_path: Path):
    (tmp_path / "data").mkdir()
    found = []
    for name in ("system.toml", "data/emberkeep.toml", "emberkeep.toml"):
        (tmp_path / name).write_text(f'vmm.qemu = "{name}"')
        found.append(load().vmm.qemu)
    (tmp_path / "mine").write_text('vmm.qemu = "mine"')
    found.append(load(EMBERKEEP_CONFIG="mine").vmm.qemu)

    assert found == ["system.toml", "data/emberkeep.toml", "emberkeep.toml", "mine"]


def test_variables_hold_numbers_lists_and_paths(tmp_path: Path):
    settings = load(
        EMBERKEEP_NODE_DISK_GIB="20",
        EMBERKEEP_NODE_HEALTH_DEADLINE_S="0.5",
        EMBERKEEP_VMM_VISIBLE="/a:b",
        EMBERKEEP_EXTRA_CA_FILE="ca.pem",
        EMBERKEEP_VMM_CPU="",
    )

    assert (settings.node.disk_gib, settings.node.health_deadline_s) == (20, 0.5)
    assert settings.vmm.visible == (Path("/a"), tmp_path / "b")
    assert settings.images.extra_ca_file == tmp_path / "ca.pem"
    assert settings.vmm.cpu is None


@pytest.mark.parametrize(
    ("content", "message", "hint"),
    [
        ("lisen = 'x:1'", "emberkeep.toml: unknown key lisen", "did you mean listen?"),
        (
            "[vmm]\nacelerator = 'kvm'",
            "unknown key vmm.acelerator",
            "did you mean vmm.accelerator?",
        ),
        ("[wmm]\nqemu = 'x'", "unknown key wmm.qemu", "did you mean vmm.qemu?"),
        ("[zzzzzzzzzz]", "unknown key zzzzzzzzzz", "docs/configuration.md"),
        ("vmm = 'x'", "unknown key vmm", ""),
        ("[vmm]\naccelerator = 'kvn'", "emberkeep.toml: vmm.accelerator: .*kvn", "auto, kvm, tcg"),
        ("[vmm]\nqemu = 5", "vmm.qemu: Expected `str`, got `int`", ""),
        ("[vmm]\nkernel = 5", "vmm.kernel: Expected `str`, got `int`", ""),
        ("[node]\ndisk_gib = '8'", "node.disk_gib: Expected `int`, got `str`", ""),
        ("[node]\ndisk_gib = 0", "node.disk_gib: .* >= 1", ""),
        ("listen = 'nowhere'", "listen: not an address: 'nowhere'", "127.0.0.1:9700"),
        ("endpoint = 'ftp://x'", "endpoint: ", ""),
        ("a = ", "cannot read .*emberkeep.toml", "correct the file"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path: Path, content: str, message: str, hint: str):
    (tmp_path / "emberkeep.toml").write_text(content)

    with pytest.raises(Invalid, match=message) as caught:
        load()
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("name", "value", "message", "hint"),
    [
        ("EMBERKEEP_LISTN", "x", "unknown variable EMBERKEEP_LISTN", "EMBERKEEP_LISTEN?"),
        ("EMBERKEEP_LISTEN", "x:y", "EMBERKEEP_LISTEN: not an address", ""),
        ("EMBERKEEP_NODE_DISK_GIB", "many", "EMBERKEEP_NODE_DISK_GIB: ", ""),
        ("EMBERKEEP_CONFIG", "nowhere", "there is no file .*nowhere", ""),
    ],
)
def test_a_wrong_variable_is_refused(name: str, value: str, message: str, hint: str):
    with pytest.raises(Invalid, match=message) as caught:
        load(None, **{name: value})
    assert hint in caught.value.hint


def test_an_unknown_option_is_refused():
    with pytest.raises(Invalid, match=r"unknown setting vmm\.qmu"):
        load({"vmm.qmu": "x"})


def test_addresses_are_written_as_they_are_read():
    assert [str(Address.parse(text)) for text in ("127.0.0.1:1", "[::1]:2", "host:3")] == [
        "127.0.0.1:1", "[::1]:2", "host:3",
    ]  # fmt: skip


def test_clients_variables_are_let_through():
    load(EMBERKEEP_API_KEY="a.b", EMBERKEEP_ENDPOINT="http://127.0.0.1:9700")


def test_a_listen_option_wins_over_the_endpoint_variable_of_clients():
    endpoint = {"EMBERKEEP_ENDPOINT": "http://127.0.0.1:9700"}

    assert load({"listen": "127.0.0.1:1"}, **endpoint).url == "http://127.0.0.1:1"
    assert load(None, **endpoint).url == "http://127.0.0.1:9700"


def test_without_a_variable_the_data_folder_depends_on_the_user(monkeypatch: pytest.MonkeyPatch):
    found = []
    for uid, environ in ((0, {}), (5, {"XDG_DATA_HOME": "/share"}), (5, {"HOME": "/home/me"})):
        monkeypatch.setattr("os.geteuid", lambda uid=uid: uid)
        found.append(str(config.load(environ=environ, system_file=Path("none")).data))

    assert found == [
        "/var/lib/emberkeep",
        "/share/emberkeep",
        "/home/me/.local/share/emberkeep",
    ]


def test_the_effective_values_are_text(tmp_path: Path):
    shown = config.effective(load(EMBERKEEP_VMM_VISIBLE="/a:/b"))

    assert list(shown) == config.keys()
    assert shown["vmm.visible"] == "/a:/b"
    assert shown["vmm.cpu"] == ""
    assert shown["data"] == str(tmp_path / "data")


def test_roles_are_tables_with_names_of_their_own_and_are_shown_by_them(tmp_path: Path):
    (tmp_path / "emberkeep.toml").write_text(
        """
        [roles.ci]
        access_key_id = "AKIA1"
        secret_access_key = "hidden"
        expires = 2026-01-31T12:00:00Z
        [roles.of-a-tool]
        command = ["aws", "configure", "export-credentials", "--format", "process"]
        """
    )
    settings = load()
    of_variable = load(EMBERKEEP_ROLES='{"one": {"command": ["x"]}}')

    secret = settings.roles["ci"].secret_access_key
    assert secret is not None
    assert secret.reveal() == "hidden"
    assert settings.roles["of-a-tool"].command[0] == "aws"
    assert list(of_variable.roles) == ["one"]
    assert config.effective(settings)["roles"] == "ci, of-a-tool"
    assert "hidden" not in repr(settings)


@pytest.mark.parametrize(
    "text",
    ["[roles]\nci = 1", "[roles.ci]\nprofile = 'x'", "[roles.ci]", "[roles.ci]\ncommand = []"],
)
def test_a_wrong_role_is_refused(tmp_path: Path, text: str):
    (tmp_path / "emberkeep.toml").write_text(text)

    with pytest.raises(Invalid, match="roles"):
        load()


def documented() -> dict[str, tuple[str, str]]:
    """Return (variables, default) of every key in the tables of the documentation."""
    rows = re.findall(r"^\| `([\w.]+)` \| (.*?) \| (.*?) \|", DOCS.read_text(), re.MULTILINE)
    return {key: (variables, default) for key, variables, default in rows if key.islower()}


def test_every_setting_is_documented_and_nothing_else():
    assert sorted(documented()) == sorted(config.keys())


@pytest.mark.parametrize("key", config.keys())
def test_documented_variables_and_defaults_are_the_real_ones(key: str):
    variables, default = documented()[key]
    shown = config.effective(Settings(data=Path("/nowhere")))[key]

    assert f"`{config.variable(key)}`" in variables
    assert all(f"`{one}`" in variables for one, of in config.ALIASES.items() if of == key)
    if shown and key != "data":
        assert default == f"`{shown}`"


def test_every_field_of_a_section_is_a_key():
    section: Any = VmmSettings

    assert {f"vmm.{one.name}" for one in fields(section)} <= set(config.keys())
