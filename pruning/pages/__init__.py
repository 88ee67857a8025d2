"""The rendered book and the README's table."""
