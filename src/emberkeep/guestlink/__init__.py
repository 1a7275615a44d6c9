"""The host side of the guest channel: the agent's operations, and no trust in its words."""
