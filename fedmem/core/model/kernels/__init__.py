"""Sums over pairs and elements that torch would spread over many passes: one file a kernel.

Each holds the definition as a few tensor operations, which other devices run, and a compiled pass
for CPUs. As tensor operations these sums write and read arrays of [positions, candidates, units or
entries] some ten times; in one pass the arrays stay in the cache or are never made.
"""
