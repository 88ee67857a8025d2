"""Attacks and shifts: is a pruned network more brittle than a dense one of the same
accuracy?"""
