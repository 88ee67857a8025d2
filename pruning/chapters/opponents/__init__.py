"""Strong opponents: what other methods reach with as many weights and as much search as
gates."""
