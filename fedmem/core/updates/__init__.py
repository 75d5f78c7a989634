"""Updates on their way: what training changed, and the filters between a user and the average."""
