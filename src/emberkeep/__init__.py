"""Emberkeep: untrusted code in microVMs that start from a snapshot, sleep with all their state, and wake on demand."""
