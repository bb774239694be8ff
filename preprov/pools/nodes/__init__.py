"""How a node of a cloud comes to have its agent: the agent as an archive, and the user data that starts it."""
