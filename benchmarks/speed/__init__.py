"""What the engine costs: passes, updates, memory, data, decoding and extraction."""
