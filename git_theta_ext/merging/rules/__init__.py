"""Decide which merge method applies to which parameter."""
