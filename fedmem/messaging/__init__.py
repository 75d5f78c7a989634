"""On Flower: what server and nodes say to each other, and who is there."""
