"""Compare two versions of a checkpoint and describe the differences."""
