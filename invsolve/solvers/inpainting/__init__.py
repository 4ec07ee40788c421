"""Samplers that fill in what a mask hides."""
