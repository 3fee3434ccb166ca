"""Push parameters to remotes and fetch them."""
