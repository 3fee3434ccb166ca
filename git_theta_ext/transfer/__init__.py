"""Bring packs to remotes and back."""
