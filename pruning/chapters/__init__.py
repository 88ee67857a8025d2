"""The chapters of the book, each a folder of its own: experiment, tables, figures, rules."""
