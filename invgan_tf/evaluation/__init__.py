"""Measures: accuracy and detection, with intervals and paired tests."""
