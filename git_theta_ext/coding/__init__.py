"""Coders of chunks that encodings are made of: bytes on their own, and bytes against a prediction."""
