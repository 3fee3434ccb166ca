"""Rewrite history so that checkpoints are versioned by git theta, or no longer are."""
