"""One exchange of Envoy's external processing, without I/O: a message in, the answer out.

https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_filters/ext_proc_filter
"""

from __future__ import annotations

from envoy.service.ext_proc.v3.external_processor_pb2 import ProcessingRequest, ProcessingResponse


def answer(request: ProcessingRequest) -> ProcessingResponse | None:
    """Lets the message pass as it is; None where there is nothing to answer."""
    part = request.WhichOneof("request")
    if part is None:
        return None
    response = ProcessingResponse()
    # Each part of a request has its answer under the same name, and an empty one means: go on.
    getattr(response, part).SetInParent()
    return response
