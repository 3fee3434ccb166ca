"""Answer git's clean and smudge filters."""
