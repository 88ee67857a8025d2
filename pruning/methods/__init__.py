"""The methods that prune, one file each, and what they share."""
