"""Records of finished runs, sweeps that make them, and the claims that they decide."""
