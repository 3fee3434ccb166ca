"""Move packs to and from remotes."""
