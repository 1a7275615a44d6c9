"""One VM: its shape, its process, its confinement, its disk and its snapshots."""
