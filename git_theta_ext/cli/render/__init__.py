"""Format results for people and for programs."""
