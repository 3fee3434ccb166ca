"""Which merge method applies to which parameter."""
