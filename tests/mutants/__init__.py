"""Does the test suite notice a broken gateware? Hand-made mutants, each killed by some test."""
