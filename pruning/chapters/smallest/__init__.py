"""The chapter smallest."""
