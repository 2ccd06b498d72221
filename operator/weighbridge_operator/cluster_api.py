"""One call to the API server: JSON in, JSON out, a bounded time, no second try by itself. Blocking: for a thread.

The kubernetes package finds the server and the credentials (a kubeconfig, or the pod's own account, whose token it
reads anew); its generated methods are not used: objects of ours have none, and a path says what RBAC must allow.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import urllib3
from kubernetes import client, config

POD_NAMESPACE: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
TIMEOUT: Final = (2.0, 4.0)  # seconds to connect, to wait for an answer
LIMIT: Final = 64 * 2**20  # bytes of an answer
APPLY: Final = "application/apply-patch+yaml"
JSON: Final = "application/json"


class ApiFault(Exception):  # noqa: N818  it is what the API server said, not an error of ours
    """No good answer. `status` is HTTP's, 0 where none came; the text is the server's own or the connection's."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"HTTP {status}: {text}" if status else text)
        self.status, self.text = status, text


class ClusterApi:
    """The API server, as one user sees it."""

    def __init__(self, api: client.ApiClient) -> None:
        self._api = api

    @property
    def host(self) -> str:
        """URL of the API server."""
        return str(self._api.configuration.host)

    @classmethod
    def connect(cls, kubeconfig: str | None = None, context: str | None = None) -> ClusterApi:
        """As the kubeconfig (default: KUBECONFIG's) says, else as the pod may. Raises ApiFault without either."""
        configuration = client.Configuration()
        try:
            _configure(configuration, kubeconfig, context)
        except (config.ConfigException, OSError, ValueError, TypeError) as error:
            text = _first_line(str(error)).rstrip(".") or type(error).__name__
            raise ApiFault(0, f"no cluster to ask: {text}") from error
        # A second try is the caller's to decide, who knows what else waits; urllib3 would make three.
        configuration.retries = False
        return cls(client.ApiClient(configuration))

    def call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        query: Sequence[tuple[str, str]] = (),
        content: str = JSON,
        timeout: tuple[float, float] = TIMEOUT,
    ) -> dict[str, Any]:
        """The answer's object; {} where it is none. Raises ApiFault."""
        data = self.fetch(method, path, body, query=query, content=content, timeout=timeout)
        try:
            said = json.loads(data)
        except ValueError as error:
            raise ApiFault(0, "the answer is no JSON") from error
        return said if isinstance(said, dict) else {}

    def fetch(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        query: Sequence[tuple[str, str]] = (),
        content: str = JSON,
        timeout: tuple[float, float] = TIMEOUT,
    ) -> bytes:
        """The answer's body. Raises ApiFault."""
        headers = {"Accept": JSON, "Content-Type": content}
        try:
            way, url, sent, *_ = self._api.param_serialize(
                method, path, query_params=list(query), header_params=headers, auth_settings=["BearerToken"]
            )
            # Elsewhere the package prints JSON by itself.
            text = json.dumps(body) if content == APPLY else body
            answer = self._api.call_api(way, url, sent, text, _request_timeout=timeout)
            data: bytes = answer.response.read(LIMIT + 1)
            answer.response.release_conn()
        except client.ApiException as error:
            raise ApiFault(0, _first_line(str(error.reason))) from error
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raise ApiFault(0, f"the API server at {self.host} does not answer ({_name(error)})") from error
        if len(data) > LIMIT:
            raise ApiFault(0, f"the answer is larger than {LIMIT >> 20} MiB")
        if answer.status >= 400:
            raise ApiFault(answer.status, _read_message(data) or str(answer.reason))
        return data


def find_namespace(context: str | None = None) -> str:
    """The namespace that the kubeconfig's context names, or the pod's own; `default` where neither says one."""
    try:
        contexts, active = config.list_kube_config_contexts()  # type: ignore[no-untyped-call]
        chosen = next((each for each in contexts if each["name"] == context), active)
        return str(chosen["context"].get("namespace") or "default")
    except (config.ConfigException, OSError, ValueError, TypeError):
        return POD_NAMESPACE.read_text().strip() if POD_NAMESPACE.exists() else "default"


def _configure(configuration: client.Configuration, kubeconfig: str | None, context: str | None) -> None:
    try:
        config.load_kube_config(kubeconfig, context, client_configuration=configuration)  # type: ignore[no-untyped-call]
    except config.ConfigException:
        if kubeconfig or context:
            raise
        config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]


def _read_message(data: bytes) -> str:
    """The message of a Status object, or of an error of our own admin interface behind a proxy."""
    try:
        said = json.loads(data)
    except ValueError:
        return _first_line(data[:500].decode(errors="replace"))
    if not isinstance(said, dict):
        return ""
    error = said.get("error")
    return _first_line(str(error.get("message") if isinstance(error, dict) else said.get("message") or ""))


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0][:1000]


def _name(error: Exception) -> str:
    """Why a connection failed, without the names of Python's objects."""
    text = _first_line(str(error))
    return text.rsplit(": ", 1)[-1] if "object at 0x" in text else text or type(error).__name__
