"""Draws the pictures of the registry, the Templates browser and the help pages."""
