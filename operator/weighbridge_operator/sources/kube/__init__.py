"""Objects from a Kubernetes cluster: kopf watches, explicit lists say what is there, nothing is lost by an absence."""
