"""Trackers side by side: accuracy on the same detections, CPU time of their update alone, memory over a long run."""
