"""On what tasks waited, second by second; and on what those of the coming night will."""
