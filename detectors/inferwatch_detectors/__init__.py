"""Detectors: drift, outliers, and how dependent rows are. Plain classes that need no service around them."""

from inferwatch_detectors.dependence import Dependence, estimate_dependence
from inferwatch_detectors.histogram import HistogramDrift
from inferwatch_detectors.mahalanobis import MahalanobisOutlier

__all__ = ["Dependence", "HistogramDrift", "MahalanobisOutlier", "estimate_dependence"]
