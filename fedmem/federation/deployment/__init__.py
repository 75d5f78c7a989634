"""Real machines: the bundle's apps, a SuperNode's process, a federation on one machine."""
