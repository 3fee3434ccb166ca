"""Reduce, check and restore what a repository stores."""
