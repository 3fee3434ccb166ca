"""Kinds of updates."""
