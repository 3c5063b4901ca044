"""The annotation loop with CVAT: what is sent, what comes back, and how the two are merged."""
