"""Recode, collect, extract and check packs."""
