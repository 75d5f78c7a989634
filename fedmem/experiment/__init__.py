"""Groups of runs: arms, controls and seeds, and what is missing of them."""
