"""Benchmarks by name. To add one: a file here with `run(options) -> list[Figure]`, and a line in `BENCHES`."""
