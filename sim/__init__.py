"""gradgate simulation backends."""
