"""References: what a model's rows looked like when all was well, as a profile of all rows and a sample, in one file."""

from inferwatch.reference.reference import HEADER, Reference, is_saved, read_reference

__all__ = ["HEADER", "Reference", "is_saved", "read_reference"]
