"""Explanations as pictures, for people: in a notebook's cell, and from the `:explain` service."""

from inferwatch.pictures.picture import Format, Picture
from inferwatch.pictures.plots import PLOTS, check_plot

__all__ = ["PLOTS", "Format", "Picture", "check_plot"]
