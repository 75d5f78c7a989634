"""User-level differential privacy: what is spent, the noise, and who takes part in a round."""
