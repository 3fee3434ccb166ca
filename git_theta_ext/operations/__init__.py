"""Use cases: the only package that joins git with the store and with checkpoints."""
