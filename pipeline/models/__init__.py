"""Models: their folders and cards, and the predictors that turn tiles into class labels."""
