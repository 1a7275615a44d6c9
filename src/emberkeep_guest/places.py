"""Where in the microVM things are; tests have other places."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Paths as the agent sees them."""

    root: str = "/run/image/root"  # of the container
    base: str = "/run/image/lower"  # the image's first layer, read-only, as the host gave it
    config: str = "/run/image/config.json"  # what the image says about its main process, if at all
    disk: str = "/run/image/disk"  # the microVM's own, below the container's root
    own: str = "/run/emberkeep"  # files that are mounted into the container one by one
    bundle: str = "/run/bundle"
    crun_state: str = "/run/crun"
    crun: str = "/usr/bin/crun"
    init: str = "/usr/libexec/emberkeep/init"  # static; for images without a command
    cgroups: str = "/sys/fs/cgroup"
    console: str = "/dev/console"

    @property
    def cgroup(self) -> str:
        """The workload's cgroup."""
        return f"{self.cgroups}/workload"
