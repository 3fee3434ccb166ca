"""Rewrite, collect, extract and check packs."""
