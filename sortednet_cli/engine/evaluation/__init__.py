"""Scores, latencies, and the frontier that is chosen from."""
