"""Encode tensors against other tensors, and decode them."""
