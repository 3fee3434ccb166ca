"""Between a file in the work tree and its manifest: clean, populate and the stat cache."""
