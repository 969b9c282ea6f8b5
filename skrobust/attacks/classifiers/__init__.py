"""Attacks on the predictions of any classifier."""
