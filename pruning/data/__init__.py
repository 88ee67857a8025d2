"""Data sets as tensors, from files whose checksums are verified."""
