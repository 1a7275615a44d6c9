"""What is chosen for a run reaches the servers, and nothing else of our environment does."""

from pathlib import Path

import pytest
from bench import bars
from bench.options import environment, parse
from bench.servers import furnished


def test_the_long_part_runs_only_in_full():
    assert "crowd" not in parse([]).parts
    assert "crowd" in parse(["--full"]).parts
    assert parse(["--parts", "launch,cold"]).parts == ["launch", "cold"]


def test_an_unknown_part_or_mode_is_refused():
    for words in (["--parts", "lunch"], ["--modes", "hot"]):
        with pytest.raises(SystemExit):
            parse(words)


def test_servers_get_the_vmm_that_was_chosen(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("EMBERKEEP_DATA", "/elsewhere")
    monkeypatch.setenv("EMBERKEEP_POOL_WAITING", "9")
    monkeypatch.setenv("EMBERKEEP_VMM_CPU", "max")

    env = environment(parse(["--qemu", "/opt/wrapper", "--accelerator", "kvm"]))

    ours = {name: value for name, value in env.items() if name.startswith("EMBERKEEP_")}
    assert ours == {
        "EMBERKEEP_VMM_CPU": "max",
        "EMBERKEEP_VMM_QEMU": "/opt/wrapper",
        "EMBERKEEP_VMM_ACCELERATOR": "kvm",
    }


def test_servers_share_files_and_not_the_index(tmp_path: Path):
    source = tmp_path / "source"
    (source / "artifacts").mkdir(parents=True)
    (source / "artifacts" / "blob").write_bytes(b"kernel")
    (source / "artifacts" / "index.json").write_bytes(b"{}")
    (source / "credentials").write_text("secret")

    data = furnished(tmp_path / "data", source)

    assert (data / "artifacts" / "blob").stat().st_ino == (
        source / "artifacts" / "blob"
    ).stat().st_ino
    assert (data / "artifacts" / "index.json").stat().st_nlink == 1
    assert not (data / "credentials").exists()


def test_every_mode_has_a_name():
    assert parse([]).modes == list(bars.READY)
