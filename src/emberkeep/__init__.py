"""Emberkeep: untrusted code in microVMs that start from a snapshot, sleep and wake."""
