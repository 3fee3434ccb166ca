"""Find exact order statistics of values that do not fit in memory."""
