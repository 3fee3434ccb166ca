"""A plug-in of each kind, as docs/plugins.md shows them."""
