"""Comparisons: what is run, on which split, against what, into which table."""
