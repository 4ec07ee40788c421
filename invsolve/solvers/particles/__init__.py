"""Sequential Monte Carlo: many weighted states an item, exact as their number grows."""
