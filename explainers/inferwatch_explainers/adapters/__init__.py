"""Explainers of other libraries, by the libraries' own class names, behind the interface of our own.

One module a library, each with a table of its algorithms; `table` gathers them. Libraries are imported when an
explainer of theirs is made.
"""
