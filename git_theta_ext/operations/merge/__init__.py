"""Merge checkpoints for git: gather a merge's inputs, run it, record it, resolve its conflicts."""
