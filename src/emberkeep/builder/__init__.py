"""From a zip with a Dockerfile to a root file system, made in a microVM."""

from emberkeep.builder.builder import Builder
from emberkeep.builder.settings import BuilderSettings

__all__ = ["Builder", "BuilderSettings"]
