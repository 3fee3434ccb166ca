"""Compare git-theta with other tools in one run, on checkpoints shaped like real transformers."""
