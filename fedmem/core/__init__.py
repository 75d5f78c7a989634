"""The recommender itself: what one node computes. It knows neither Flower nor Hydra."""
