"""Serving a picked model over HTTP. No FiftyOne, no torch."""
