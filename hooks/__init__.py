"""Hook scripts that ``git theta install`` puts in place."""
