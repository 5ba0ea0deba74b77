"""Quality of a model's predictions: counts of pixels, metrics made of them, and their intervals.

All metrics are functions of confusion matrices (rows truth, columns prediction). These add up: over
tiles to a region, over regions to a patient, an institute or the whole set. Memory therefore does
not grow with the number of pixels.

Pixels whose truth is `IGNORED` are not counted. Classes with the role "ignore" are predicted like
any other: they are in the confusion matrix and in the accuracy. Only the means over classes leave
them out, as the validation Dice of a training does.
"""
