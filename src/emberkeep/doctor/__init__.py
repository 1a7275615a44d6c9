"""What this host can do, found by trying, and what to do about what it cannot."""
