"""Tests on real microVMs."""
