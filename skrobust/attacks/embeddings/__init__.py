"""Attacks on embeddings, rankings and pairs."""
