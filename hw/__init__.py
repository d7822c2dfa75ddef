"""gradgate gateware."""
