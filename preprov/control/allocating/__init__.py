"""Resource types, a module each: how a claim on one is kept, begun, changed and given back."""
