"""All that speaks to git."""
