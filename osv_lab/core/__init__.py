"""Errors, settings, digests, progress and the shape of a report. Standard library and numpy only."""
