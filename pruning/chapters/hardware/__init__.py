"""What pruning buys on this machine: bytes, memory and time of a network in several forms."""
