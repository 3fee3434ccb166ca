"""The store: packs of encoded tensors and skeletons, and an index that finds them by digest."""
