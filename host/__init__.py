"""gradgate: train CNNs on an FPGA from PyTorch."""
