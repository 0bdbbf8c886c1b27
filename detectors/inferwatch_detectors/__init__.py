"""Detectors: drift, outliers, and how dependent rows are. Plain classes that need no service around them."""

from inferwatch_detectors.conformal_outlier import ConformalOutlier, MahalanobisOutlier
from inferwatch_detectors.dependence import Dependence, estimate_dependence
from inferwatch_detectors.histogram import HistogramDrift
from inferwatch_detectors.quality import QualityCheck
from inferwatch_detectors.two_sample_drift import TwoSampleDrift

__all__ = [
    "ConformalOutlier",
    "Dependence",
    "HistogramDrift",
    "MahalanobisOutlier",
    "QualityCheck",
    "TwoSampleDrift",
    "estimate_dependence",
]
