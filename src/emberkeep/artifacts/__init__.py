"""Kernel, initramfs, agent root and base image: made once, checked, kept by digest."""

from emberkeep.artifacts.artifacts import ALL, Artifact, Artifacts, wanted
from emberkeep.artifacts.events import Event, Phase
from emberkeep.artifacts.settings import ArtifactSettings

__all__ = ["ALL", "Artifact", "ArtifactSettings", "Artifacts", "Event", "Phase", "wanted"]
