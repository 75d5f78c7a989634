"""On Flower: the two apps, what they say to each other, and nodes on machines of their own."""
