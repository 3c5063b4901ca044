"""Dataset versions: time and memory against the number of images, and of changes."""
