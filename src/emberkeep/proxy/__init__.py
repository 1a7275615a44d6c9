"""The data plane: HTTPS to the microVMs, each at an address of its own."""
