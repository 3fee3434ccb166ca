"""Compare versions of a checkpoint and say what changed."""
