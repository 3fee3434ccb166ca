"""Updates that come beside a checkpoint, and changes too small to keep: read, applied, made."""
