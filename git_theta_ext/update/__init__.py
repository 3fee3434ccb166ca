"""Read, apply and make updates of a checkpoint, and find changes that are too small to store."""
