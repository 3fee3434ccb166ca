"""Kinds of statistics."""
