"""The AWS face: Lambda MicroVMs and its connectors, as unmodified AWS clients speak them."""
