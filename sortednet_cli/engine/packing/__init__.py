"""Bench packs: exported sub-models, and the script that times them on a device without the tool."""
