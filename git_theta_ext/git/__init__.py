"""Git plumbing: knows no store and no checkpoint."""
