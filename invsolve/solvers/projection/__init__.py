"""Samplers that put what y says into the estimate or into the state: null spaces, replacement, projections."""
