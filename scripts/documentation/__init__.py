"""Generate the man page, the completions and the tables of the documentation from the code."""
