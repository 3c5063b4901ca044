"""Know your data: health, quality, duplicates and leaks, label errors, and what to label next."""
