"""Scores, costs, and the frontier of sub-models."""
