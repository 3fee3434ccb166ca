"""Decode the entries of packs and compare them with their digests."""
