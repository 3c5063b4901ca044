"""The store against FiftyOne itself, on the same data, in one run."""
