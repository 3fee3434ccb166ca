"""Run parts of some work on other machines."""
