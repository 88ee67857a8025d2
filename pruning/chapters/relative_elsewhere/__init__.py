"""Relative importance elsewhere: other networks, CIFAR-10, and blind ranges in training."""
