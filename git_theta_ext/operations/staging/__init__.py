"""Stage checkpoints as ``git theta add`` does."""
