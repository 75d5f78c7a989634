"""Where it runs: cores, GPUs, and the machines of a Ray cluster."""
