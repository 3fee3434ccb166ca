"""What is left to do in a repository, and what is wrong with an installation."""
