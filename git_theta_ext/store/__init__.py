"""Packs of encoded tensors and skeletons, found by digest."""
