"""Decide, without arithmetic, how each parameter is merged."""
