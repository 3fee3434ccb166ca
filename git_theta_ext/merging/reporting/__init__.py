"""Measure the effect of a merge, and report it."""
