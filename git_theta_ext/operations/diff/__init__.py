"""Diffs of checkpoints and models: what git's diff driver and ``git theta diff`` compare."""
