"""Remotes, to which packs are pushed and from which they are fetched."""
