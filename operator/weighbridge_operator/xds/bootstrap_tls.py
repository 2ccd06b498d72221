"""How an Envoy proves to the operator who it is, and asks the same of it: certificates from a mounted Secret.

Envoy takes new certificates while it runs over SDS alone, so two small files, which never change, say where the
certificates are and which directory to watch: kubelet swaps a mounted Secret by renaming a link in it
(https://www.envoyproxy.io/docs/envoy/latest/configuration/security/secret). Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from weighbridge_operator.xds.names import is_literal

Json = dict[str, Any]
CERTIFICATE_FILE, AUTHORITIES_FILE = "xds-certificate.json", "xds-authorities.json"
_TYPES = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3"


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Directories on Envoy's machine: `certificates` has tls.crt, tls.key and ca.crt, `sources` what `print_sources`
    makes.
    """

    certificates: str
    sources: str


def operator_tls(host: str, tls: TlsFiles) -> Json:
    """The transport socket to an operator that is reached, and named in its certificate, as `host`."""
    wanted = {"san_type": "IP_ADDRESS" if is_literal(host) else "DNS", "matcher": {"exact": host}}
    context: Json = {
        "@type": f"{_TYPES}.UpstreamTlsContext",
        "common_tls_context": {
            # As a client Envoy knows at most 1.2 unless it is told.
            "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
            "alpn_protocols": ["h2"],
            "tls_certificate_sds_secret_configs": [_from_file("certificate", tls, CERTIFICATE_FILE)],
            "combined_validation_context": {
                "default_validation_context": {"match_typed_subject_alt_names": [wanted]},
                "validation_context_sds_secret_config": _from_file("authorities", tls, AUTHORITIES_FILE),
            },
        },
    }
    if not is_literal(host):
        context["sni"] = host
    return {"name": "envoy.transport_sockets.tls", "typed_config": context}


def print_sources(tls: TlsFiles) -> dict[str, Json]:
    """By file name, what the files in `tls.sources` hold."""
    watched = {"watched_directory": {"path": tls.certificates}}
    pair = {"certificate_chain": _file(tls, "tls.crt"), "private_key": _file(tls, "tls.key"), **watched}
    trust = {"trusted_ca": _file(tls, "ca.crt"), **watched}
    return {
        CERTIFICATE_FILE: _source({"name": "certificate", "tls_certificate": pair}),
        AUTHORITIES_FILE: _source({"name": "authorities", "validation_context": trust}),
    }


def _from_file(name: str, tls: TlsFiles, file: str) -> Json:
    source = {"path_config_source": {"path": f"{tls.sources}/{file}"}, "resource_api_version": "V3"}
    return {"name": name, "sds_config": source}


def _file(tls: TlsFiles, name: str) -> Json:
    return {"filename": f"{tls.certificates}/{name}"}


def _source(secret: Json) -> Json:
    return {"resources": [{"@type": f"{_TYPES}.Secret", **secret}]}
