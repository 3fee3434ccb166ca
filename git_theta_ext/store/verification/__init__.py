"""Decode what packs hold, and compare it with the digests."""
