"""Encodings of points: the multi-resolution hash grid and what computes it."""
