"""Commands that users run, one module each."""
