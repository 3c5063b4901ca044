"""Evaluation into FiftyOne fields, and verification of exported artifacts."""
