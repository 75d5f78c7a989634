"""On Flower: the two apps, and nodes on machines of their own."""
