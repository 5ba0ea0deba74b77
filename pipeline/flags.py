"""Quality flags: the short meaning of each, for tables and pages. docs/flags.md has the whole."""

FLAG_MEANINGS = {
    "mpp_estimated": "the pixel size is a guess",
    "no_tissue": "no tissue was found",
    "little_tissue": "less than 0.1 % of the slide is tissue",
    "almost_all_tissue": "more than 95 % of the slide is tissue",
    "tissue_mostly_rejected": "most of what looked like tissue was left out",
    "tissue_mask_given": "the tissue was not searched for, the manifest gives a mask",
    "pen_marks": "ink of a pen was found and left out",
    "not_h_and_e": "the slide has a dark background",
    "red_blue_exchanged": "red and blue were swapped in the file",
    "channel_order_doubtful": "red and blue may be swapped in the file",
    "blurred": "more than a quarter of the tiles is out of focus",
    "unreadable_tissue": "some tissue could not be read",
    "low_confidence": "the model is unsure",
    "seams": "neighbouring tiles disagree where they meet",
    "tumor_from_heat_map": "the tumor was found by a threshold on the tumor map",
    "other_tumor_classes": "the tumor map belongs to other classes than the tumor area",
}
"""Meaning of each flag, by its name."""


def flag_meaning(flag: str) -> str:
    """Meaning of a flag; "" for a flag of another version."""
    return FLAG_MEANINGS.get(flag, "")
