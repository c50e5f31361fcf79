"""What a training takes, counted without weights or data."""
