// The Prometheus operator's CustomResourceDefinitions lie in its module; nothing of it is built.
module weighbridge.dev/tests/prometheus-operator

go 1.24.0

require github.com/prometheus-operator/prometheus-operator v0.85.0
