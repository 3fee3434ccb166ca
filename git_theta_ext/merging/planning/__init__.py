"""Decide, without arithmetic, what becomes of each parameter."""
