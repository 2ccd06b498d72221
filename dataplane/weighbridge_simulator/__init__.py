"""A simulated model server and fleet: for the demo, tests and benchmarks. Imports neither plane."""
