"""Find the models that become experts, and decide which parameters their mixture has."""
