"""The program on a node, local or cloud: standard library only."""
