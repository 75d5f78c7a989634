"""Sums over pairs that torch would spread over many passes, each in a compiled one for CPUs.

Beside it is the definition as a few tensor operations, which other devices run. These write and
read arrays of [positions, candidates, units or entries] some ten times; in one pass the arrays stay
in the cache or are never made.
"""
