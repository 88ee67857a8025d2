"""Networks, and what is left of them: structure, sparsity, importance, export."""
