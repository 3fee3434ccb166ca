"""The command line: arguments, output and progress."""
