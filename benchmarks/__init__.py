"""Every figure of README and docs, made again: accuracy, speed, and what both share."""
