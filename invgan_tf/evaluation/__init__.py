"""Measures: accuracy with intervals and paired tests."""
