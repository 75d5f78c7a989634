"""What one user, or a cohort, changes in a model in a round."""
