"""Events between processes over a Kafka topic: written by `forwarder`, read through a `Consumer`."""
