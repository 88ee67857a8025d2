"""The chapter relative_importance."""
