"""Counts words for clients that speak HTTP."""
