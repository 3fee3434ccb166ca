"""Compute what a plan says, piece by piece."""
