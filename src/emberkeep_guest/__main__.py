"""Runs the agent, as PID 1 of a microVM."""

import sys

# asyncio does without it, and it is the largest thing asyncio would import.
sys.modules["ssl"] = None  # type: ignore[assignment]

from emberkeep_guest.main import main  # noqa: E402

if __name__ == "__main__":
    main()
