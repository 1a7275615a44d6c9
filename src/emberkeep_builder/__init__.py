"""Runs inside the builder's microVM: from a zip with a Dockerfile to a file system on a disk.

Standard library only, as the agent's; it imports nothing of the server and is told all it needs.
"""
