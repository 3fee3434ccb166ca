"""Hook scripts that ``git theta install`` installs."""
