"""A trace played against policies on the in-memory cloud, through the same control code as production."""
