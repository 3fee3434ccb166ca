"""Find exact thresholds of values that do not fit in memory."""
