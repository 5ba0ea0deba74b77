"""Point samples that a reader answers, and the areas that follow from them."""
