"""Format results as text, JSON and HTML."""
