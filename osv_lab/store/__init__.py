"""FiftyOne datasets as the one store: database, ingest, conversion, export."""
