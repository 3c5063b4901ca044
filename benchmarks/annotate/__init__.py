"""The annotation loop against FiftyOne's own CVAT backend."""
