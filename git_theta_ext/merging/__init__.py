"""Plan the merge of checkpoints, compute the merged values, and report the effect."""
