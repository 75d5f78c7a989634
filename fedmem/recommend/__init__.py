"""`python -m fedmem.recommend`: the best items for a user, and what each score is made of."""
