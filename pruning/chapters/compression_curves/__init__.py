"""The chapter compression_curves."""
