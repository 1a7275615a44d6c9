"""The long checks of `make bars`: programs that print what they have measured."""
