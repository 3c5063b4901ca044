"""What a detector is, its engines, and export with parity. No FiftyOne."""
