"""Eq. 4 beside attributions that look at outputs, and the information that weights carry."""
