"""What people and machines see of a Report: tables, a live screen, lines of change, and Prometheus' text."""
