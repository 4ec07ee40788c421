"""Images of any size, solved in pieces that overlap."""
