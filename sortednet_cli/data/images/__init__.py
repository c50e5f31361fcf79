"""Images: reading, decoding, augmenting and batching."""
