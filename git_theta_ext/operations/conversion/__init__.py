"""Convert between checkpoints and what other libraries read and write, without a loss."""
