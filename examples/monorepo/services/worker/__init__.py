"""Counts the words of a file."""
