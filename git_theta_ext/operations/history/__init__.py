"""List the versions that history holds, and what the work tree changed."""
