"""Report of an evaluation: page, plots, gallery and tables of figures that are given."""
