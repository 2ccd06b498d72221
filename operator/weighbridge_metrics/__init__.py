"""What engines and exporters print about load, and how it is read: shared by both planes, imports neither."""
