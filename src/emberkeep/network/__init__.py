"""Network slots: a namespace and a tap for one microVM."""
