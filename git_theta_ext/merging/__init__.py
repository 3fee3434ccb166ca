"""Decide what a merge takes from where, and compute what has to be computed."""
