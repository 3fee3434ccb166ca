"""Statistics that merge methods need besides the values of a checkpoint: layout, collection and storage."""
