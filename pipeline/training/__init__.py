"""How a network learns: crops, variation, loss, the loop."""
