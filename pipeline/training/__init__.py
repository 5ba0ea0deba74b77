"""Training of a network: crops and their variation, loss, loop, checkpoint and validation."""
