"""Choose a merge by evaluation: make candidates on trial, evaluate them, and merge the best."""
