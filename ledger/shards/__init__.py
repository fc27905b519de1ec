"""Parquet: keys, decisions, exact rewriting, publication."""
