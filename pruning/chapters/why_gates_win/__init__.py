"""Why do gates win at a few hundred weights: the networks they find, taken apart and trained
again."""
