"""What doctor found, for people and for programs."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from emberkeep.artifacts import Artifacts
from emberkeep.base.aio import in_thread
from emberkeep.cli.shell import print_json
from emberkeep.doctor.examine import Subject, examine
from emberkeep.doctor.findings import Finding, Level, fail, healthy, warn
from emberkeep.domain.errors import EmberkeepError
from emberkeep.network.examined import looked_at
from emberkeep.serve.access import is_loopback
from emberkeep.serve.config import effective

if TYPE_CHECKING:
    from emberkeep.serve.config import Settings

_MARKS: Final = {
    Level.OK: click.style("✓", fg="green"),
    Level.WARN: click.style("!", fg="yellow"),
    Level.FAIL: click.style("✗", fg="red"),
}


def report(settings: "Settings", *, as_json: bool) -> bool:
    """Examine this machine and say what was found; return whether Emberkeep can work here."""
    findings = [*asyncio.run(_examined(settings)), *_of_settings(settings)]
    if as_json:
        print_json(
            {
                "healthy": healthy(findings),
                "findings": [finding.as_json() for finding in findings],
                "settings": effective(settings),
            }
        )
    else:
        _print(findings, settings)
    return healthy(findings)


def _of_settings(settings: "Settings") -> list[Finding]:
    """Judge what is configured, whatever the machine is like."""
    if not settings.auth.open:
        return []
    remedy = "leave out auth.open (EMBERKEEP_AUTH_OPEN) where others use this machine"
    if not is_loopback(settings.listen.host):
        return [fail("keys", f"none is asked for, on {settings.listen}: it will not start", remedy)]
    return [warn("keys", "none is asked for: everybody on this machine may do everything", remedy)]


async def _examined(settings: "Settings") -> list[Finding]:
    artifacts = Artifacts(settings.data / "artifacts")
    subject = Subject(
        data=settings.data,
        qemu=settings.vmm.qemu,
        accelerator=settings.vmm.accelerator,
        machine=settings.vmm.machine,
        cpu=settings.vmm.cpu,
        kernel=settings.vmm.kernel or _path(artifacts, "kernel"),
        initramfs=settings.vmm.initramfs or _path(artifacts, "initramfs"),
        artifacts=await artifacts.verify_all(),
        outside=await in_thread(looked_at, settings.network),
    )
    return await examine(subject)


def _path(artifacts: Artifacts, name: str) -> Path | None:
    try:
        return artifacts.get(name).path
    except EmberkeepError:  # doctor says so in its own words
        return None


def _print(findings: list[Finding], settings: "Settings") -> None:
    width = max((len(finding.name) for finding in findings), default=0)
    for finding in findings:
        click.echo(f"{_MARKS[finding.level]} {finding.name.ljust(width)}  {finding.found}")
        if finding.remedy:
            click.echo(f"  {' ' * width}  → {finding.remedy}")
    changed = ", ".join(f"{key}={value}" for key, value in effective(settings).items() if value)
    click.echo(f"\nsettings: {changed}")
