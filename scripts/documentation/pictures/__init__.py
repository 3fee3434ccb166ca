"""Make the pictures of the documentation by running git theta: ``scripts/pictures``."""
