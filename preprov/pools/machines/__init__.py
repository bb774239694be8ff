"""What clouds have in common that lend machines by name: nodes told from machines, fences, and the provider's verbs."""
