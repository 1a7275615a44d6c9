"""Where the code that images are built from comes from, and where it lies until it is used."""
