"""A sum over nodes of which the server sees nothing but the sum.

The protocol is that of K. Bonawitz et al., "Practical Secure Aggregation for Privacy-Preserving
Machine Learning" (CCS 2017), against a server that is honest but curious, with a loss of nodes at
any of its four steps:

1. each node offers two public keys;
2. it splits the secrets of its masks among all nodes, each share sealed to the one that holds it;
3. it sends its integers under two kinds of masks: one for each other node, which cancel in the sum,
   and one of its own, for the case that its reply is late and its other masks were opened already;
4. those that remain reveal shares: of a node whose integers arrived, of its own mask; of one that
   was lost, of the masks that it had with others. Never of both: that would open its integers.

Nothing here knows how messages travel: `Member` is a node's side of one round, `Coordinator` the
server's.
"""

FEWEST = 3
"""Nodes of a sum: of two, each finds the other's numbers by subtracting its own."""
MODULI = (16, 32)
"""Bits of the integers that are summed: modulo 2^16 or 2^32."""
