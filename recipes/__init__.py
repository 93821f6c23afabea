"""Recipes that make what the package ships."""
