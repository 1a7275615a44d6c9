"""One of two clients from one source: scripts/unasync.py makes _sync from _async."""
