"""Trackers on arrays, their files, metrics and events. No FiftyOne, no torch."""
