"""Measure what a merge did, and report it."""
