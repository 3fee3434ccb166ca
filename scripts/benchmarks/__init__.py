"""Measures git-theta and its peers in one run, on checkpoints shaped like real transformers."""
