"""Attacks on clusterings."""
