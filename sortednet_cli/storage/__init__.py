"""Runs, checkpoints and artifacts on disk: safetensors, JSON and TOML, written whole."""
