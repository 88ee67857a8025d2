"""The chapter pixel_representatives."""
