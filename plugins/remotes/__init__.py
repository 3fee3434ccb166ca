"""Remotes that packs are pushed to and fetched from."""
