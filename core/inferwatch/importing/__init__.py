"""Payloads that were logged elsewhere, as events: KServe's blob logs, SageMaker's data capture, plain tables."""
