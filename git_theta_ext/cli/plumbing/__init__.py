"""Commands that git runs."""
