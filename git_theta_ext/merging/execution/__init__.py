"""Compute the values that a plan asks for, piece by piece."""
