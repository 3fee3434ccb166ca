"""What any layer may use: files, threads, text."""
