"""What Emberkeep costs: measured beside a bare script that does the same without it."""
