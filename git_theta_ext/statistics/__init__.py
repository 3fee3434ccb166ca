"""What merge methods may need to know of a checkpoint besides its values: laid out, collected, saved."""
