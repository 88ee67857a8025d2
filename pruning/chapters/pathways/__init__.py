"""The chapter pathways."""
