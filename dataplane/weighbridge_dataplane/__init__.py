"""The data plane's Python part, asked only on routes whose policy needs it."""
