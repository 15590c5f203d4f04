"""Carry spans and synthetic results from Kafka and files into ClickHouse."""
