"""Search the merge whose result evaluates best: what is tried, and in which order. Nothing is merged here."""
