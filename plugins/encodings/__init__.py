"""Encodings of chunks."""
