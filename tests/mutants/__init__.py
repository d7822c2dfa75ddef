"""Does the test suite notice a broken gateware? Hand-made mutants, each of which some test must kill."""
