"""Models of Gateway API's objects (of the experimental channel) and of Envoy Gateway's (of about 1.10): the fields that deploy/
uses, with the names, types and limits that the sources of those projects' CRDs give them."""

import types
from typing import Annotated, Any, Literal

from pydantic import Field

from strict import Name, ObjectMeta, Strict

Duration = Annotated[str, Field(pattern=r"^([0-9]{1,5}(h|m|s|ms)){1,4}$")]
Port = Annotated[int, Field(ge=1, le=65535)]
GATEWAY = "gateway.networking.k8s.io/v1"
ENVOY = "gateway.envoyproxy.io/v1alpha1"


class Object(Strict):
    metadata: ObjectMeta


class Reference(Strict):
    group: str
    kind: str
    name: Name
    namespace: Name | None = None


class Named(Strict):
    name: Name
    namespace: Name | None = None


class GatewayClassSpec(Strict):
    controllerName: str
    parametersRef: Reference | None = None


class GatewayClass(Object):
    apiVersion: Literal[GATEWAY]
    kind: Literal["GatewayClass"]
    spec: GatewayClassSpec


class ListenerTls(Strict):
    mode: Literal["Terminate", "Passthrough"] | None = None
    certificateRefs: list[Named] | None = None


class Listener(Strict):
    name: Name
    port: Port
    protocol: Literal["HTTP", "HTTPS", "TLS", "TCP", "UDP"]
    hostname: str | None = None
    tls: ListenerTls | None = None


class GatewaySpec(Strict):
    gatewayClassName: Name
    listeners: Annotated[list[Listener], Field(min_length=1, max_length=64)]


class Gateway(Object):
    apiVersion: Literal[GATEWAY]
    kind: Literal["Gateway"]
    spec: GatewaySpec


class PathMatch(Strict):
    type: Literal["Exact", "PathPrefix", "RegularExpression"]
    value: str


class Match(Strict):
    path: PathMatch | None = None


class SessionPersistence(Strict):
    type: Literal["Cookie", "Header"] | None = None
    sessionName: Annotated[str, Field(max_length=128)] | None = None


class HeaderModifier(Strict):
    remove: Annotated[list[str], Field(max_length=16)] | None = None


class HTTPFilter(Strict):
    type: Literal["RequestHeaderModifier"]
    requestHeaderModifier: HeaderModifier


class Timeouts(Strict):
    request: Duration | None = None


class Backend(Strict):
    name: Name
    port: Port


class Rule(Strict):
    matches: list[Match] | None = None
    filters: list[HTTPFilter] | None = None
    sessionPersistence: SessionPersistence | None = None
    timeouts: Timeouts | None = None
    backendRefs: list[Backend] | None = None


class HTTPRouteSpec(Strict):
    parentRefs: list[Named]
    hostnames: list[str] | None = None
    rules: list[Rule]


class HTTPRoute(Object):
    apiVersion: Literal[GATEWAY]
    kind: Literal["HTTPRoute"]
    spec: HTTPRouteSpec


class Target(Strict):
    group: Literal["gateway.networking.k8s.io"]
    kind: Literal["Gateway", "HTTPRoute"]
    name: Name


class Image(Strict):
    url: str


class WasmCode(Strict):
    type: Literal["Image"]
    image: Image
    pullPolicy: Literal["IfNotPresent", "Always"] | None = None


class WasmEnv(Strict):
    hostKeys: list[str]


class Wasm(Strict):
    name: str | None = None
    code: WasmCode
    config: Any = None
    env: WasmEnv | None = None
    failOpen: bool | None = None


class EnvoyExtensionPolicySpec(Strict):
    targetRefs: list[Target]
    wasm: Annotated[list[Wasm], Field(max_length=16)]


class EnvoyExtensionPolicy(Object):
    apiVersion: Literal[ENVOY]
    kind: Literal["EnvoyExtensionPolicy"]
    spec: EnvoyExtensionPolicySpec


class Operation(Strict):
    op: Literal["add", "remove", "replace", "move", "copy", "test"]
    path: str | None = None
    jsonPath: str | None = None
    value: Any = None


class JsonPatch(Strict):
    type: Literal[
        tuple(
            "type.googleapis.com/envoy." + name
            for name in (
                "config.listener.v3.Listener",
                "config.route.v3.RouteConfiguration",
                "config.cluster.v3.Cluster",
                "config.endpoint.v3.ClusterLoadAssignment",
                "extensions.transport_sockets.tls.v3.Secret",
            )
        )
    ]
    name: str
    operation: Operation


class EnvoyPatchPolicySpec(Strict):
    type: Literal["JSONPatch"]
    targetRef: Target
    jsonPatches: list[JsonPatch]


class EnvoyPatchPolicy(Object):
    apiVersion: Literal[ENVOY]
    kind: Literal["EnvoyPatchPolicy"]
    spec: EnvoyPatchPolicySpec


Filter = Literal[
    tuple(
        "envoy.filters.http." + name
        for name in (
            "health_check",
            "fault",
            "cors",
            "ext_authz",
            "api_key_auth",
            "basic_auth",
            "oauth2",
            "jwt_authn",
            "stateful_session",
            "lua",
            "ext_proc",
            "wasm",
            "rbac",
            "local_ratelimit",
            "ratelimit",
            "custom_response",
            "credential_injector",
            "compressor",
        )
    )
]


class FilterPosition(Strict):
    name: Filter
    before: Filter | None = None
    after: Filter | None = None


class SecretKey(Strict):
    name: Name
    key: str


class ValueFrom(Strict):
    secretKeyRef: SecretKey


class Variable(Strict):
    name: str
    valueFrom: ValueFrom


class Container(Strict):
    env: list[Variable] | None = None


class EnvoyDeployment(Strict):
    replicas: int | None = None
    container: Container | None = None


class KubernetesProvider(Strict):
    envoyDeployment: EnvoyDeployment | None = None


class Provider(Strict):
    type: Literal["Kubernetes"]
    kubernetes: KubernetesProvider | None = None


class LogFormat(Strict):
    type: Literal["Text"]
    text: str


class LogFile(Strict):
    path: Annotated[str, Field(min_length=1)]


class LogSink(Strict):
    type: Literal["File"]
    file: LogFile


class LogSetting(Strict):
    format: LogFormat
    sinks: Annotated[list[LogSink], Field(min_length=1)]


class AccessLog(Strict):
    settings: list[LogSetting]


class ProxyTelemetry(Strict):
    accessLog: AccessLog | None = None


class ProxyBootstrap(Strict):
    type: Literal["Merge", "Replace", "JSONPatch"]
    value: str


class EnvoyProxySpec(Strict):
    provider: Provider
    filterOrder: list[FilterPosition] | None = None
    telemetry: ProxyTelemetry | None = None
    bootstrap: ProxyBootstrap | None = None


class EnvoyProxy(Object):
    apiVersion: Literal[ENVOY]
    kind: Literal["EnvoyProxy"]
    spec: EnvoyProxySpec


class ClientHeaders(Strict):
    withUnderscoresAction: Literal["Allow", "RejectRequest", "DropHeader"] | None = None
    earlyRequestHeaders: HeaderModifier | None = None


class ClientTrafficPolicySpec(Strict):
    targetRefs: list[Target]
    headers: ClientHeaders | None = None


class ClientTrafficPolicy(Object):
    apiVersion: Literal[ENVOY]
    kind: Literal["ClientTrafficPolicy"]
    spec: ClientTrafficPolicySpec


class RetryOn(Strict):
    triggers: list[
        Literal[
            "5xx",
            "gateway-error",
            "reset",
            "reset-before-request",
            "connect-failure",
            "retriable-4xx",
            "refused-stream",
            "retriable-status-codes",
            "cancelled",
            "deadline-exceeded",
            "internal",
            "resource-exhausted",
            "unavailable",
        ]
    ]


class Retry(Strict):
    numRetries: Annotated[int, Field(ge=0)] | None = None
    retryOn: RetryOn | None = None


class HttpCheck(Strict):
    path: Annotated[str, Field(min_length=1, max_length=1024)]


class ActiveCheck(Strict):
    type: Literal["HTTP"]
    http: HttpCheck
    timeout: Duration | None = None
    interval: Duration | None = None
    unhealthyThreshold: Annotated[int, Field(ge=1)] | None = None
    healthyThreshold: Annotated[int, Field(ge=1)] | None = None


class PassiveCheck(Strict):
    splitExternalLocalOriginErrors: bool | None = None
    consecutiveLocalOriginFailures: int | None = None
    consecutive5XxErrors: int | None = None
    maxEjectionPercent: int | None = None


class HealthCheck(Strict):
    panicThreshold: Annotated[int, Field(ge=0, le=100)] | None = None
    active: ActiveCheck | None = None
    passive: PassiveCheck | None = None


class BackendTrafficPolicySpec(Strict):
    targetRefs: list[Target]
    retry: Retry | None = None
    healthCheck: HealthCheck | None = None


class BackendTrafficPolicy(Object):
    apiVersion: Literal[ENVOY]
    kind: Literal["BackendTrafficPolicy"]
    spec: BackendTrafficPolicySpec


def kinds(*models):
    return types.SimpleNamespace(**{found.__name__: found for found in models})


MODULES = {
    GATEWAY: kinds(GatewayClass, Gateway, HTTPRoute),
    ENVOY: kinds(EnvoyExtensionPolicy, EnvoyPatchPolicy, EnvoyProxy, ClientTrafficPolicy, BackendTrafficPolicy),
}
