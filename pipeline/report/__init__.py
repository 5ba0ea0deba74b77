"""Pages and pictures made from figures; nothing is measured here."""
