"""Merge methods: pure tensor functions with a contract."""
