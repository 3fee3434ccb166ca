"""Convert checkpoints in the work tree to manifests and back, and cache the results by stat data."""
