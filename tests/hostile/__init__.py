"""Guests, and VMMs that were broken into, that try what they must not."""
