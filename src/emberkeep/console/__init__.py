"""The web console: static pages, and the sessions that let a browser use the API."""

from emberkeep.console.app import Console
from emberkeep.console.sessions import Sessions

__all__ = ["Console", "Sessions"]
