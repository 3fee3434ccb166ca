"""Read and write pack files."""
