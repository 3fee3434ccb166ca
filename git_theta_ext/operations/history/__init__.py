"""List the versions in history, and the state of the work tree."""
